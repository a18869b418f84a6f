"""Accepted changes of the code's bits: today's code goes by the name of an older one, and old runs keep theirs.

They stand in experiments/code/accepted.yaml, which is to be committed. Reports, numbers and the paper say of
every experiment which ones its runs rest on.
"""

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import yaml
from pydantic import Field

from mlm import identity, yaml_file
from mlm.errors import InputError
from mlm.files import read_json, write_atomically
from mlm.layout import EXPERIMENTS, RESULTS

if TYPE_CHECKING:
    from mlm.study import Study

FILE = EXPERIMENTS / "code" / "accepted.yaml"
HEAD = "# Written by `python -m mlm accept`; what it means: docs/reproducibility.md.\n"

Code = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class Change(yaml_file.Strict):
    """A change of bits that was looked at and found not to matter."""

    why: Annotated[str, Field(min_length=1)]
    stands_for: Annotated[dict[Code, Code], Field(min_length=1)]
    """What the code is called by its bits -> what it is called instead."""


class _File(yaml_file.Strict):
    changes: list[Change]


def changes() -> list[Change]:
    """The accepted changes, in the order of the file.

    Raises:
        InputError: the file is not as `accept` writes it.
    """
    if not FILE.exists():
        return []
    return yaml_file.validated(_File, yaml_file.read(FILE), str(FILE)).changes


def read() -> dict[str, tuple[str, str]]:
    """What the code is called by its bits -> what it is called instead, and why; the last change counts."""
    return {code: (old, change.why) for change in changes() for code, old in change.stands_for.items()}


def name(code: str) -> str:
    """What the code goes by."""
    return read().get(code, (code, ""))[0]


def accept(study: "Study", why: str) -> int:
    """Let the code of planned runs go by the names under which the same runs have ended.

    Returns:
        How many runs are kept.

    Raises:
        InputError: no ended run differs from a planned one in its code alone.
    """
    ended: dict[str, tuple[int, str]] = {}
    for path in sorted((RESULTS / "runs").glob("*/run.json")):
        record = read_json(path.with_name("config.json"), f"delete {path.parent}")
        without, when = _without_code(record), path.stat().st_mtime_ns
        ended[without] = max(ended.get(without, (0, "")), (when, record["code"]))
    found: dict[str, Counter[str]] = {}
    for run in study.runs.values():
        there = ended.get(_without_code(run.record()))
        # What is renamed already stays so: a second name of one code would undo the first.
        if there and run.accepted is None and not (run.folder / "run.json").exists():
            found.setdefault(run.code, Counter())[there[1]] += 1
    if not found:
        raise InputError(
            f"{RESULTS / 'runs'}: no ended run differs from one that scale {study.scale_name} plans in its "
            "code alone; there is nothing to accept"
        )
    # Of several older codes of one path, the one that keeps the most runs.
    chosen = {code: min(olds, key=lambda old: (-olds[old], old)) for code, olds in sorted(found.items())}
    content = {"changes": [one.model_dump() for one in (*changes(), Change(why=why, stands_for=chosen))]}
    # Quoted, as a code of digits would be read as a number.
    text = yaml.safe_dump(content, default_style='"', sort_keys=False, allow_unicode=True, width=10**6)
    write_atomically(FILE, HEAD + text)
    return sum(found[code][old] for code, old in chosen.items())


def _without_code(record: dict[str, object]) -> str:
    return identity.digest({**record, "code": None})
