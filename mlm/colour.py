"""How a person sees filled text: what stood there dim, what was filled right or wrong in colour."""

import io
from typing import Any

from rich.console import Console
from rich.text import Text

RIGHT, WRONG, CONTEXT = "bold green", "bold red", "dim"


def coloured(record: dict[str, Any]) -> Text:
    """A filled prompt: context dim, right fills green, wrong ones red with the original behind."""
    fills = {f["position"]: f["piece"] for f in record["fills"]}
    text = Text()
    for position, piece in enumerate(record["pieces"]):
        written = fills.get(position)
        if written is None:
            text.append(_spelled(piece), CONTEXT)
        elif written == piece:
            text.append(_spelled(piece), RIGHT)
        else:
            text.append(_spelled(written), WRONG)
            text.append(f"({_spelled(piece).strip()})", CONTEXT)
    return text


def score(record: dict[str, Any]) -> tuple[int, int]:
    """How many fills of a prompt are right, of how many."""
    pieces = record["pieces"]
    return sum(pieces[f["position"]] == f["piece"] for f in record["fills"]), len(record["fills"])


def _spelled(piece: str) -> str:
    return piece.replace("▁", " ")


def html(lines: list[Text]) -> str:
    """Coloured lines as a piece of HTML that needs no style sheet."""
    console = Console(record=True, file=io.StringIO(), width=10_000, highlight=False, force_terminal=True)
    for line in lines:
        console.print(line)
    return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
