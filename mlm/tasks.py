"""Sentence tasks: a YAML file in experiments/probes/ -> sentences with their classes. Loads no torch.

What is in both parts would be remembered rather than understood: sentences are told apart by their
words alone, each is kept once, and the hash of its words decides which part it is in, so that a
line more or less moves no other.
"""

import hashlib
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from mlm import archives, identity, sources, yaml_file
from mlm.errors import Damaged, InputError
from mlm.files import read_rows, write_rows
from mlm.layout import EXPERIMENTS
from mlm.yaml_file import Strict

FOLDER = EXPERIMENTS / "probes"
SCORED_HEADER = ["id", "sentiment", "text"]


class Task(Strict):
    """A task's file; `format` is what the other files in the folder do not have.

    `labelled`: lines `CLASS text` or `CLASS:detail text`, the detail unused. `scored`: a table with
    the columns id, sentiment and text between tabs; the sign of the score gives the class.
    """

    title: str
    licence: str
    format: Literal["labelled", "scored"]
    source: archives.Package | sources.Files = Field(discriminator="kind")
    held_out: Annotated[float, Field(gt=0.0, lt=1.0)]
    """Share of the sentences that is asked and never learnt from."""


class Example(NamedTuple):
    """A sentence and its class."""

    text: str
    label: str
    held_out: bool


def names() -> list[str]:
    """The tasks there are."""
    return [file.stem for file in sorted(FOLDER.glob("*.yaml")) if "format" in yaml_file.read(file)]


def load(name: str) -> Task:
    """Read and check a task's file."""
    file = FOLDER / f"{name}.yaml"
    remedy = f"the sentence tasks are: {', '.join(names()) or 'none'}"
    content = yaml_file.read(file, remedy)
    if "format" not in content:
        raise InputError(f"{file}: no sentence task, its key `format` is missing; {remedy}")
    return yaml_file.validated(Task, content, str(file))


def identity_of(name: str) -> str:
    """Digest of what decides the prepared sentences, hashes of local files included."""
    task = load(name)
    content = task.model_dump(exclude={"title", "licence"})
    code = identity.code_hash(("mlm.tasks", "mlm.sources", "mlm.archives"))
    files = sources.hashes(task.source, str(FOLDER / f"{name}.yaml"))
    return identity.digest([content, files, code])


def prepare(name: str, path: Path) -> None:
    """Write a task's sentences as lines of JSON under a line of counts and their checksum.

    Raises:
        InputError: a line cannot be parsed, or a part would lack sentences or classes.
    """
    file, task = FOLDER / f"{name}.yaml", load(name)
    found = [
        pair
        for document, parts in sources.documents(task.source, str(file))
        for pair in parse("".join(parts), task.format, document)
    ]
    signed = [(text, label) for text, label in found if label is not None]
    unique = distinct(signed)
    kept = {key: one for key, (one, labels) in unique.items() if len(labels) == 1}
    # By hash, so that a line more or less changes the order of no others.
    ordered = sorted((_hash(key), *one) for key, one in kept.items())
    examples = [Example(text, label, place < task.held_out) for place, text, label in ordered]
    train = [e for e in examples if not e.held_out]
    test = [e for e in examples if e.held_out]
    if missing := {e.label for e in test} - {e.label for e in train}:
        raise InputError(
            f"{file}: no sentence of {', '.join(sorted(missing))} to learn from; "
            "give more sentences, or hold out a smaller share"
        )
    if not test or len({e.label for e in train}) < 2:
        raise InputError(
            f"{file}: {len(train)} sentences to learn from and {len(test)} held out; "
            "give more sentences, of at least two classes in the part that is learnt from"
        )
    header = {
        "lines": len(found),
        "without_class": len(found) - len(signed),
        "repeated": len(signed) - len(unique),
        "conflicting": len(unique) - len(kept),
        "sentences": len(train) + len(test),
    }
    write_rows(path, (one._asdict() for one in train + test), header)


def read(path: Path) -> list[Example]:
    """Prepared sentences, verified by the checksum in the file's first line."""
    found = read_rows(path, Example, "prepare the task's sentences first")
    for number, one in enumerate(found, start=2):
        if tuple(map(type, one)) != (str, str, bool):
            raise Damaged(f"{path}, line {number}: damaged ({one}); delete it and run again")
    return found


def parse(content: str, form: Literal["labelled", "scored"], where: str) -> Iterator[tuple[str, str | None]]:
    r"""(sentence, class) of every line that is not blank; a score of 0 has no class.

    >>> list(parse("HUM:ind Who was Galileo ?\n", "labelled", "here"))
    [('Who was Galileo ?', 'HUM')]
    """
    lines = [(number, line) for number, line in enumerate(content.split("\n"), start=1) if line.strip()]
    if form == "scored":
        if not lines or lines[0][1].split("\t") != SCORED_HEADER:
            raise InputError(
                f"{where}, line 1: the columns must be {', '.join(SCORED_HEADER)}, with tabs between; "
                "name them so, or choose another `format`"
            )
        del lines[0]
    for number, line in lines:
        text, label = _labelled(line) if form == "labelled" else _scored(line)
        if not text:
            expected = "`CLASS text`" if form == "labelled" else "an id, a number and a text with tabs between"
            shown = repr(line if len(line) <= 60 else line[:60] + " …")
            raise InputError(f"{where}, line {number}: {shown} is not {expected}; correct or remove the line")
        yield text, label


def _labelled(line: str) -> tuple[str, str]:
    found = re.fullmatch(r"([A-Za-z0-9_-]+)(?::[A-Za-z0-9_-]+)?\s+(\S.*)", line)
    return (" ".join(found[2].split()), found[1]) if found else ("", "")


def _scored(line: str) -> tuple[str, str | None]:
    fields = line.split("\t")
    try:
        _, score, text = fields
        value = float(score)
    except ValueError:
        return "", None
    sign = "positive" if value > 0 else "negative" if value < 0 else None
    return " ".join(text.split()) if math.isfinite(value) else "", sign


def words(text: str) -> list[str]:
    """A sentence's words, without case and punctuation.

    >>> words("What is `` dew point '' ?")
    ['what', 'is', 'dew', 'point']
    """
    return re.findall(r"\w+", text.casefold())


def distinct(found: list[tuple[str, str]]) -> dict[str, tuple[tuple[str, str], set[str]]]:
    """By its words: the first spelling of each sentence with its class, and all classes that it is given."""
    result: dict[str, tuple[tuple[str, str], set[str]]] = {}
    for text, label in found:
        result.setdefault(" ".join(words(text)) or text, ((text, label), set()))[1].add(label)
    return result


def _hash(key: str) -> float:
    """A number in [0, 1) that follows from the text alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48
