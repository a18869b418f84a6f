"""What all contestants of the benchmark train: shapes, and the run that each comes to."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from mlm import config, corpus, planner, single
from mlm.errors import InputError
from mlm.layout import RESULTS

FOLDER = RESULTS / "bench"


class Shape(NamedTuple):
    """What all contestants train."""

    layers: int
    width: int
    heads: int
    feedforward_width: int
    length: int
    batch_size: int
    kind: str
    """Of the vocabulary."""
    size: int | None
    """Of the vocabulary; None: as many as the text has characters."""


SHAPES = {
    "tiny": Shape(2, 128, 2, 512, 64, 64, "unigram", 2048),
    "mini": Shape(4, 256, 4, 1024, 128, 32, "unigram", 8192),
    "original": Shape(6, 128, 8, 256, 32, 32, "char", None),
}
"""`original` is that of the annotated implementation's own experiment."""


class Study(NamedTuple):
    """Whose recipe and text are used."""

    experiment: str = "split"
    scale: str = "laptop"


def plan(shape: Shape, study: Study, seed: int = 0) -> Path:
    """The run of a shape, its data prepared, in a folder of the benchmark's own."""
    size = shape.size or _characters(study)
    encoder = {key: getattr(shape, key) for key in ("layers", "width", "heads", "feedforward_width")}
    changes = {
        "encoder": encoder,
        "vocabulary": {"kind": shape.kind, "size": size},
        "sequence_length": shape.length,
        "batch_size": shape.batch_size,
    }
    stated = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    planned = single.plan(study.experiment, "", seed, study.scale, stated)
    folder = FOLDER / planned.name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(planned / "config.json", folder)
    if [path.name for path in planned.iterdir()] == ["config.json"]:
        shutil.rmtree(planned)  # nobody's but ours: nothing was ever trained there
    return folder


def _characters(study: Study) -> int:
    """Size of the vocabulary of all characters of the training text."""
    planned = planner.load_study(study.scale, [study.experiment])
    data = planned.runs[planned.cells[0].digest].data
    corpus.prepare(data.corpus_file, data.corpus)
    found: set[str] = {"\n"}
    for _, text in corpus.read(data.corpus, "train"):
        found |= set(text)
    return config.N_SPECIAL + len(found)


def chosen(names: Sequence[str], say: Callable[[str], None]) -> dict[str, Shape]:
    """The shapes of these names; all, unless told.

    Args:
        say: called with a line for a person about each name that is unknown, if another is known.

    Raises:
        InputError: none is known.
    """
    found = {name: SHAPES[name] for name in names or SHAPES if name in SHAPES}
    unknown = [f"--shape: {name!r} is unknown" for name in names if name not in SHAPES]
    others = f"choose from {', '.join(SHAPES)}"
    if not found:
        raise InputError(*(f"{one}; {others}" for one in unknown))
    for one in unknown:
        say(f"{one} and left out; {others}")
    return found
