"""Files that are no YAML, or hold what no file of a study may, and settings of a start that are none."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.malformed import valid
from tests.malformed.case import Case, written
from tests.malformed.commands import CONFIG
from tests.malformed.stated import GROUPS, WORDS

ACCEPTED = "experiments/code/accepted.yaml"


def laughs() -> str:
    """A few lines that repeat each other and come to ten billion values."""
    first = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    return first + "".join(
        f"{q}: &{q} [{', '.join([f'*{p}'] * 10)}]\n" for p, q in zip("abcdefghi", "bcdefghij", strict=True)
    )


TEXTS: dict[str, bytes] = {
    "it is empty": b"",
    "a list stands at the top": b"- title: t\n",
    "one word stands at the top": b"title\n",
    "it is no YAML: a bracket is open": b"title: [1, 2\n",
    "it is no YAML: a tab": b"title:\n\t- x\n",
    "two documents are in it": b"title: t\n---\ntitle: u\n",
    "a key is given twice": b"title: t\ntitle: u\n",
    "a key is a number": b"80: {}\n",
    "a key is a list": b"? [a]\n: b\n",
    "a tag asks for a command": b"title: !!python/object/apply:os.system [touch pwned]\n",
    "a tag asks for an object": b"title: !!python/object/new:pathlib.Path [x]\n",
    "a tag of its own": b"title: !mine x\n",
    "a value is a date": b"title: 2026-01-01\n",
    "`*name` is nowhere": b"title: *nowhere\n",
    "a list repeats itself within itself": b"title: &x [*x]\n",
    "a few lines come to ten billion values": laughs().encode(),
    "brackets within brackets, without end": b"title: " + b"[" * 5000,
    "a number has 5000 digits": b"title: " + b"9" * 5000,
    "it is not UTF-8": b"title: \xff\n",
    "a byte is nought": b"title: \x00\n",
    "a text has an escaped nought": b'title: "a\\0b"\n',
    "a text has half of a surrogate pair": b'title: "\\ud800"\n',
}
SETTINGS = {
    "an unknown setting": ("scala=test", "scala"),
    "`mixed` is neither true nor false": ("mixed=perhaps", "mixed=perhaps"),
    "a scale that is not there": ("scale=huge", "experiments/scales/huge.yaml"),
    "a scale that leads elsewhere": ("scale=../trial", "'../trial'"),
    "a scale with a blank": ("scale=a b", "'a b'"),
    "a scale with a command": ("scale=$(touch pwned)", "'$(touch pwned)'"),
    "a scale with a command in backticks": ("scale=`touch pwned`", "'`touch pwned`'"),
    "a scale with quotes": ("scale=a'b\"c", "a\\'b\"c"),
    "a scale with a line end": ("scale=a\nb", "'a\\nb'"),
    "a scale like an option": ("scale=--help", "'--help'"),
    "a scale in other letters": ("scale=größe", "'größe'"),
}


def cases() -> Iterator[Case]:
    """Every one of these texts in the place of every kind of file, and every setting."""
    files = (valid.TEST_SCALE, valid.TRIAL, valid.REFERENCE, valid.TASK, valid.BROWN)
    groups = {file: GROUPS[file] for file in files} | {ACCEPTED: "Accepted changes of code"}
    for file, group in groups.items():
        words = WORDS.get(file, (CONFIG, "scale=test"))
        for what, content in TEXTS.items():
            yield Case(group, f"`{file}`: {what}", written(file, content), words, (file,))
        yield Case(group, f"`{file}`: a folder is in its place", _gone(file, Path.mkdir), words, (file,))
        if file not in (ACCEPTED, valid.TRIAL):
            yield Case(group, f"`{file}`: it is missing", _gone(file), words, (file,))
    for what, (setting, named) in SETTINGS.items():
        shown = f"`--config {setting!r}`: {what}"
        yield Case("Settings of a start", shown, lambda place: None, (CONFIG, setting), (named,))


def _gone(name: str, instead: Callable[[Path], None] | None = None) -> Callable[[Path], None]:
    return partial(_without, name, instead)


def _without(name: str, instead: Callable[[Path], None] | None, place: Path) -> None:
    (place / name).parent.mkdir(parents=True, exist_ok=True)
    (place / name).unlink(missing_ok=True)
    if instead:
        instead(place / name)
