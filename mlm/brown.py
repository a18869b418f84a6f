"""The Brown corpus with its gold parts of speech: package archive -> sentences for the probe."""

import re
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from mlm import archives, experiment, identity, yaml_file
from mlm.errors import InputError
from mlm.files import read_rows, write_rows
from mlm.yaml_file import Strict

FILE = Path("experiments/probes/brown.yaml")


class Brown(Strict):
    """The file experiments/probes/brown.yaml."""

    title: str
    licence: str
    source: archives.Package
    held_out_digits: list[Annotated[int, Field(ge=0, le=9)]]
    shortest_words: Annotated[int, Field(ge=1)]
    longest_words: Annotated[int, Field(ge=1)]


class Sentence(NamedTuple):
    """One sentence; `tags[i]` is the part of speech of `words[i]`."""

    words: list[str]
    tags: list[str]
    held_out: bool


def load() -> Brown:
    """Read and check experiments/probes/brown.yaml."""
    return yaml_file.validated(Brown, yaml_file.read(FILE, "the probe needs it; restore it"), str(FILE))


def identity_of(size: experiment.Probe) -> str:
    """Digest of what decides the prepared sentences."""
    content = load().model_dump(exclude={"title", "licence"})
    code = identity.code_hash(("mlm.brown", "mlm.archives"))
    return identity.digest([content, size.model_dump(), code])


def prepare(size: experiment.Probe, path: Path) -> None:
    """Write the training and held-out sentences as lines of JSON."""
    brown = load()
    pools: dict[bool, list[Sentence]] = {False: [], True: []}
    archive = archives.fetch(brown.source, str(FILE))
    for name, content in archives.members(archive, brown.source.members, str(FILE)):
        if not name[-1].isdigit():
            raise InputError(
                f"{FILE}: source.members: takes in {name}, which does not end in a digit, as held_out_digits "
                "asks; narrow it to the files of tagged sentences"
            )
        held_out = int(name[-1]) in brown.held_out_digits
        for sentence in parse(content, f"{archive}, member {name}", held_out):
            if brown.shortest_words <= len(sentence.words) <= brown.longest_words:
                pools[held_out].append(sentence)
    chosen: list[Sentence] = []
    for held_out, wanted, key in ((False, size.train_sentences, "train"), (True, size.test_sentences, "test")):
        pool = pools[held_out]
        if wanted > len(pool):
            raise InputError(
                f"measures.probe.{key}_sentences: {wanted} are asked for, {FILE} has {len(pool)}; ask for fewer"
            )
        chosen += [pool[i] for i in np.arange(wanted) * len(pool) // wanted]  # evenly over all genres
    write_rows(path, (one._asdict() for one in chosen), {"sentences": len(chosen)})


def read(path: Path) -> list[Sentence]:
    """Prepared sentences, verified by the checksum in the file's first line."""
    return read_rows(path, Sentence, f"`python -m mlm sentences {path}` writes it")


def parse(content: bytes, where: str, held_out: bool) -> list[Sentence]:
    """Sentences of one file of `word/tag` tokens, a sentence a line."""
    sentences = []
    for number, line in enumerate(content.decode("latin-1").splitlines(), start=1):
        words, tags = [], []
        for token in line.split():
            word, slash, tag = token.rpartition("/")
            if not slash or not word or not tag:
                raise InputError(
                    f"{where}, line {number}: {token!r} is not word/tag; narrow source.members of {FILE} to "
                    "files in which every token has its tag"
                )
            words.append('"' if word in ("``", "''") else word)
            tags.append(collapse(tag))
        if words:
            sentences.append(Sentence(words, tags, held_out))
    return sentences


def collapse(tag: str) -> str:
    """Base part of speech: no title, headline, citation or foreign marks, first part of a contraction.

    >>> [collapse(tag) for tag in ("np-tl", "fw-in+at-tl", "ppss+bem", "md*", "nn$")]
    ['np', 'in', 'ppss', 'md', 'nn$']
    """
    base = re.sub(r"^fw-", "", tag.lower())
    base = re.sub(r"(-(tl|hl|nc))+$", "", base)
    base = re.split(r"[+]", base)[0]
    base = re.sub(r"(-(tl|hl|nc))+$", "", base)
    return base.rstrip("*") or "*"
