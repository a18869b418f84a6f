"""Every malformed input with what is said of it, and docs/refusals.md, which lists them."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mlm import archives
from tests.malformed import damage, stated, texts, valid
from tests.malformed.case import Case
from tests.malformed.commands import Told
from tests.mlm.places import write_yaml

LIST = Path(__file__).parents[2] / "docs" / "refusals.md"
COMMAND = "python -m tests.malformed"
VARYING = {
    r"\b[0-9a-f]{64}\b": "‹SHA-256›",
    r"\b(?=[0-9]*[a-f])[0-9a-f]{16}\b": "‹digest›",
    r"\b(line|column|char|byte) \d+": r"\1 ‹n›",
    r"\b\d+ bytes": "‹n› bytes",
    r"\(now '.*?'\)(?=;)": "(now ‹the line›)",
}
"""What is another with every change of the code, or on another machine."""
HEAD = """# What is refused, and what is said

Written by `{command}`; a test compares. {number} malformed inputs, each met by the command that reads it.
Where nothing else is said, that ends with exit code 2, the message on standard error and no traceback; a
line is a problem. The inputs are derived from the schemas: every key of an experiment, a scale, a corpus, a
task and the Brown file, misspelt, missing, of a wrong type and out of range. Stated one by one is what goes
wrong between keys of an experiment that are each right by themselves. The others are files that a study
writes, cut short, changed, emptied, replaced and gone.

A contrast that could not be decided with its seeds, whatever came out, is no refusal: at a scale that counts
as evidence `snakemake` says so before its first run, with how many seeds would do
(`analysis/testable.py`, `tests/mlm/test_testable.py`).

A file that others vouch for is known by its SHA-256, and one changed bit is noticed. Nobody vouches for
`run.json`, `study.json`, the files of measures and the metrics of a run that goes on, before `collect` has
read them: there a changed bit is noticed only if the file is no JSON any more, or says what cannot be.

Archives are read without writing a member to the disk: none may lead out of the archive, be a link or a
device where it is asked for, come to more than {member} MiB, or all of them to more than {archive} GiB; nor
may there be more than {members} (`mlm/archives.py`, `tests/malformed/test_archives.py`). No name that
reaches a shell is more than one word there (`tests/malformed/test_shell.py`). Weights are safetensors,
checkpoints too. Nothing is unpickled (`tests/malformed/test_code.py`) but what torch has compiled here, as
torch does itself: that is code, so take over nobody's `results/data/compiled`.
"""


class Entry(NamedTuple):
    """A case, and how it went."""

    case: Case
    told: Told

    @property
    def lines(self) -> list[str]:
        """What was said, without what varies."""
        said = self.told.said if self.case.code else self.told.printed
        for pattern, instead in VARYING.items():
            said = re.sub(pattern, instead, said)
        lines = [line for line in said.splitlines() if line.strip()]
        return lines if self.case.code else [line.strip() for line in lines if "checkpoint" in line]


def entries(folder: Path) -> Iterator[Entry]:
    """Every case met, in places under a folder."""
    place = valid.found(folder / "stated")
    for case in (*stated.keys(), *stated.between(), *texts.cases()):
        yield Entry(case, _named(case.met(place), place))
        for name in (texts.ACCEPTED, *valid.WHOLE):
            path = place / name
            if name not in case.what:
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            if name in valid.WHOLE:
                write_yaml(path, valid.WHOLE[name])
    for found, written in ((damage.trained, damage.OF_RUNS), (damage.analysed, damage.OF_RESULTS)):
        whole = found(folder / found.__name__)
        for case in damage.cases(whole, written):
            place = folder / "spoilt"
            shutil.copytree(whole, place, symlinks=True)
            yield Entry(case, _named(case.met(place), place))
            shutil.rmtree(place)


def _named(told: Told, place: Path) -> Told:
    """Without the path of this machine."""
    return Told(
        told.code,
        *(text.replace(f"{place}/", "").replace(str(place), ".") for text in (told.said, told.printed)),
    )


def document(found: list[Entry]) -> str:
    """The list, a table for each kind of file."""
    text = HEAD.format(
        command=COMMAND,
        number=len(found),
        member=archives.MEMBER_LIMIT_BYTES // 2**20,
        archive=archives.ARCHIVE_LIMIT_BYTES // 2**30,
        members=f"{archives.MEMBERS_LIMIT:,}",
    )
    for group in dict.fromkeys(entry.case.group for entry in found):
        mine = [entry for entry in found if entry.case.group == group]
        text += f"\n## {group}\n\n| input | message |\n|---|---|\n"
        text += "".join(
            f"| {_cell(entry.case.what)} | {'<br>'.join(map(_code, entry.lines))} |\n" for entry in mine
        )
    return text


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _code(line: str) -> str:
    return f"`` {_cell(line.removeprefix('error: '))} ``"
