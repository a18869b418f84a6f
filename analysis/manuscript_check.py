"""The paper's sources before they are filled in: no number of ours typed by hand, nothing stated but not told.

Where results are told, a decimal or a percentage must come from `numbers.json` by its id, or from
paper/published.yaml by the name of its table. What is no result may stand in the text: a constant of the
method as a formula, `$0.1$`, anything in code, and the level of the intervals. Sections on question and method
may say what they like. Of the ids of numbers.json, which are made for every measure of every arm, most go
unused; what is stated in order to be told are the tables of published.yaml, of which each must be inserted by
some text, and the remarks on an experiment, which must exist.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from analysis import outputs, published
from mlm.errors import InputError
from mlm.layout import EXPERIMENTS

FREE_SECTIONS = ("question", "method", "setup")
"""Labels of the sections of paper.md that tell no results."""
LEVEL = "95 %"
"""Of every interval; the words of the text may say so."""
PERCENT = r"(?:\\?[\s\u00a0\u202f]|\\)*%"
NUMBER = re.compile(rf"(?<![\w.,/^])[−-]?(?:(?:\d[\d,]*)?\.\d+(?!\d|\.\d)|\d[\d,]*(?={PERCENT}))")
SKIPPED = re.compile(
    r"<%.*?%>|<<.*?>>|<#.*?#>"  # the template's own language
    r"|\$\$.*?\$\$|(?<!\\)\$[^$\n]+?\$"  # formulas
    r"|```.*?```|`[^`\n]*`"  # code
    r"|<!--.*?-->"
    r"|\[[^\]\n]*@[^\]\n]*\]"  # citations, with what stands in them
    r"|https?://\S+|\barXiv[\s:]*\d{4}\.\d{4,5}",
    re.DOTALL,
)
HEADING = re.compile(r"^# .*\{.*#sec:([\w-]+).*\}")


def check() -> None:
    """Refuse sources that state numbers themselves, or leave unsaid what is stated to be told.

    Raises:
        InputError: names file, line and number of each.
    """
    if found := [*_typed(), *_untold()]:
        raise InputError(*found)


def remarks() -> list[Path]:
    """What is said of single experiments beside what is said of all."""
    return sorted((outputs.PAPER / "experiments").glob("*.md"))


def _typed() -> Iterator[str]:
    for path in (outputs.PAPER / "paper.md", outputs.PAPER / "experiment.md", *remarks()):
        for number, found in typed(path.read_text(encoding="utf-8")):
            yield (
                f"{path}, line {number}: the number {found} is written into the text; quote it by its id, "
                "<< num(…) >>, or, where it is a constant of the method, write it as a formula, $…$"
            )


def typed(text: str) -> Iterator[tuple[int, str]]:
    """(line, number) of every decimal and percentage that stands in a source as it is.

    >>> list(typed("It rose by 0.3 to << num('a.b') >>, $0.7$ and 12 %."))
    [(1, '0.3'), (1, '12 %')]
    """
    bare = SKIPPED.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)
    section = ""
    for number, line in enumerate(bare.splitlines(), start=1):
        if heading := HEADING.match(line):
            section = heading.group(1)
        elif line.startswith("# "):
            section = ""
        if section not in FREE_SECTIONS:
            for match in NUMBER.finditer(line):
                percent = re.match(PERCENT, line[match.end() :])
                found = f"{match.group()} %" if percent else match.group()
                if found != LEVEL:
                    yield number, found


def _untold() -> Iterator[str]:
    sources = [*(outputs.PAPER / name for name in ("paper.md", "experiment.md")), *remarks()]
    said = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    for name in published.names():
        if not re.search(rf"<[<%][^\n]*[\"']{re.escape(name)}[\"'.]", said):
            yield (
                f"{published.FILE}: {name}: no text of the paper inserts it; insert it, "
                f'<< beside(EXPERIMENT, "{name}") >>, or take it out'
            )
    for path in remarks():
        if not (EXPERIMENTS / f"{path.stem}.yaml").exists():
            yield f"{path}: there is no experiment {path.stem}; rename the file, or remove it"
