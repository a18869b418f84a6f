"""The log of a LaTeX run -> what is wrong with the pages, though latexmk ends well."""

import re
from collections.abc import Iterator

WRONG = (
    (re.compile(r"^! (.+)"), "error"),
    (re.compile(r"^LaTeX Warning: ((?:Hyper r|R)eference `[^']+' .*undefined)"), "undefined reference"),
    (re.compile(r"^(?:LaTeX|Package natbib) Warning: (Citation `[^']+' .*undefined)"), "undefined citation"),
    (re.compile(r"^LaTeX Warning: (Label `[^']+' multiply defined)"), "label"),
    (re.compile(r"^LaTeX Warning: (Float too large for page by .+)"), "float"),
    (re.compile(r"^(Overfull \\hbox \([^)]+\).*)"), "text over the margin"),
    (re.compile(r"^(Missing character: .+)"), "character that the font lacks"),
)
"""What a line begins with, and what it is called."""
AT = re.compile(r"^l\.(\d+) ")


def problems(log: str) -> list[str]:
    r"""Every problem of a run's last pass, with the line of paper.tex where TeX says it.

    Args:
        log: written with `max_print_line` so large that TeX breaks no line.

    >>> problems("Overfull \\hbox (3.1pt too wide) in paragraph at lines 7--9")
    ['text over the margin: Overfull \\hbox (3.1pt too wide) in paragraph at lines 7--9']
    """
    found = list(dict.fromkeys(_found(log.splitlines())))
    stopped = [problem for problem in found if problem.startswith("error")]
    return stopped or found  # before it stopped, nothing was defined yet


def _found(lines: list[str]) -> Iterator[str]:
    for i, line in enumerate(lines):
        for pattern, name in WRONG:
            if told := pattern.match(line):
                at = next((m[1] for after in lines[i + 1 : i + 12] if (m := AT.match(after))), "")
                where = f", line {at}" if name == "error" and at else ""
                yield f"{name}{where}: {told[1]}"
