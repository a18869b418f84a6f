"""The files that a run's results stand on, from corpus to measures, each with the hash that vouches for it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis import runs
from mlm.files import file_sha256, read_json
from mlm.layout import RESULTS

DATA = RESULTS / "data"
ARRAYS = ("tokens", "offsets", "lines")
Vouched = tuple[str, str]
"""Path from the root of the study, and SHA-256."""


def data(digest: str) -> dict[str, Path]:
    """The files that speak for a run's prepared data: corpus, vocabulary, shards."""
    names = runs.config(digest)["data"]
    return {
        "corpus": DATA / "corpora" / names["corpus"] / "corpus.json",
        "vocabulary": DATA / "vocabularies" / names["vocabulary"] / "vocabulary.model",
        "shards": DATA / "shards" / names["shards"] / "shards.json",
    }


def of_run(record: runs.RunFile) -> Iterator[Vouched]:
    """A run's own files; weights and metrics as run.json says."""
    folder = runs.folder(record.digest)
    for name in ("config.json", "run.json"):
        yield _now(folder / name)
    for name, sha256 in record.files.items():
        yield (folder / name).as_posix(), sha256


def of_data(record: runs.RunFile) -> Iterator[Vouched]:
    """A run's data as run.json says, and what shards.json says of the files beside it.

    Older runs do not say which corpus.json and shards.json they had: these are taken as they are.
    """
    files, said = data(record.digest), record.inputs
    for kind in ("corpus", "shards"):
        sha256 = said.manifests_sha256.get(kind)
        if sha256:
            yield files[kind].as_posix(), sha256
        elif files[kind].is_file():
            yield _now(files[kind])
    for split, sha256 in said.corpus_sha256.items():
        yield (files["corpus"].parent / f"{split}.jsonl").as_posix(), sha256
    if said.vocabulary_sha256:
        yield files["vocabulary"].as_posix(), said.vocabulary_sha256
    if files["shards"].is_file():
        header: dict[str, Any] = read_json(files["shards"], f"delete {files['shards'].parent} and run again")
        for split, stated in header.get("splits", {}).items():
            for name in ARRAYS:
                if sha256 := stated.get(f"{name}_sha256"):
                    yield (files["shards"].parent / f"{split}.{name}").as_posix(), sha256


def of_measure(path: Path, measure: runs.MeasureFile) -> Iterator[Vouched]:
    """A measure's file, and what it says that it read."""
    yield _now(path)
    yield from measure.data.items()


def _now(path: Path) -> Vouched:
    return path.as_posix(), file_sha256(path)
