"""Markdown as the paper's filter reads it: tables with labels, lists in a sentence."""

from collections.abc import Sequence

RULE = ("\\midrule",)
"""A row that the Lua filter turns into a rule."""


def heading(text: str) -> tuple[str]:
    """A row that the Lua filter turns into a heading over all columns."""
    return (f"`\\heading` {escaped(text)}",)


def pipe_table(
    label: str, caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, text: bool = False
) -> str:
    """A Markdown table that can be referred to as [@tbl:label], of numbers or of text."""
    rules = [":---", *[":---" if text else "---:"] * (len(columns) - 1)]
    full = [[*row, *[""] * (len(columns) - len(row))] for row in rows]
    lines = ["| " + " | ".join(_cell(cell) for cell in line) + " |" for line in (columns, *full)]
    lines.insert(1, "| " + " | ".join(rules) + " |")
    return "\n".join(lines) + f"\n\n: {caption} {{#tbl:{label}}}\n"


def _cell(text: str) -> str:
    if text == RULE[0] or text.startswith("`"):
        return text.replace(RULE[0], "`\\midrule`")
    return escaped(text.replace(" ± ", "\u00a0±\u00a0")).replace("|", "\\|")


def escaped(text: str) -> str:
    """Text whose brackets are brackets."""
    return text.replace("[", "\\[").replace("]", "\\]")


def listed(parts: Sequence[str], last: str) -> str:
    """A list in a sentence.

    >>> listed(["a", "b", "c"], "or"), listed(["a"], "and")
    ('a, b or c', 'a')
    """
    return f" {last} ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)
