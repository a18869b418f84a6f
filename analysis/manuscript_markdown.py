"""Markdown as the paper's filter reads it: tables with labels, lists in a sentence."""

from collections.abc import Callable, Iterable, Sequence

RULE = ("\\midrule",)
"""A row that the Lua filter turns into a rule."""


def heading(text: str) -> tuple[str]:
    """A row that the Lua filter turns into a heading over all columns."""
    return (f"`\\heading` {escaped(text)}",)


def pipe_table(
    label: str, caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, text: bool = False
) -> str:
    """A Markdown table that can be referred to as [@tbl:label], of numbers or of text."""
    full = [[*row, *[""] * (len(columns) - len(row))] for row in rows]
    return f"{pipes(columns, full, _cell, text=text)}\n\n: {caption} {{#tbl:{label}}}\n"


def pipes(
    columns: Sequence[str], rows: Iterable[Sequence[str]], cell: Callable[[str], str], *, text: bool = False
) -> str:
    """The lines of a Markdown table: of numbers, to the right, behind its first column, or of text.

    >>> print(pipes(["arm", "n"], [["a", "8"]], str.upper))
    | ARM | N |
    | :--- | ---: |
    | A | 8 |
    """
    rules = [":---", *[":---" if text else "---:"] * (len(columns) - 1)]
    first, *others = [[cell(one) for one in line] for line in (columns, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (first, rules, *others))


def _cell(text: str) -> str:
    if text == RULE[0] or text.startswith("`"):
        return text.replace(RULE[0], "`\\midrule`")
    return escaped(unbroken(text)).replace("|", "\\|")


def unbroken(text: str) -> str:
    """Text whose ± no line ends beside."""
    return text.replace(" ± ", "\u00a0±\u00a0")


def escaped(text: str) -> str:
    """Text whose brackets are brackets."""
    return text.replace("[", "\\[").replace("]", "\\]")


def listed(parts: Sequence[str], last: str) -> str:
    """A list in a sentence.

    >>> listed(["a", "b", "c"], "or"), listed(["a"], "and")
    ('a, b or c', 'a')
    """
    return f" {last} ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)
