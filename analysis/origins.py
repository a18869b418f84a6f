"""Where a number comes from: the code, commits and inputs of its runs, and the tables it was read from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from analysis import outputs, provenance, run_files, runs
from analysis.entries import Entry
from analysis.study import Study
from mlm.files import file_sha256


@dataclass(frozen=True)
class Origin:
    """Of a run; of an encoder before its first step that of a run which begins with it."""

    code: str
    commit: str
    inputs: dict[str, str]
    """corpus.json, vocabulary.model and shards.json by path -> SHA-256."""


def of_runs(study: Study, name: str) -> dict[str, Origin]:
    """Digest -> origin, of runs of an experiment that have ended and of encoders before their first step."""
    read = provenance.load(provenance.file("collect", study.scale, name)).read
    found: dict[str, Origin] = {}
    for cell in study.cells(name):
        record = runs.run(cell.digest)
        if record is not None:
            paths = (path.as_posix() for path in run_files.data(cell.digest).values())
            inputs = {path: read[path] for path in paths if path in read}
            origin = Origin(record.code, record.git.words, inputs)
            found[cell.digest] = origin
            found.setdefault(cell.untrained, origin)
    return found


def tables(study: Study, names: Iterable[str]) -> dict[str, str]:
    """The tables that numbers of some experiments are read from: path -> SHA-256."""
    paths = [path for name in names for path in outputs.results(study.scale, name)]
    return {path: file_sha256(Path(path)) for path in paths}


def told(entry: Entry, origins: Mapping[str, Origin], read_from: Mapping[str, str]) -> Entry:
    """An entry with where it comes from; several codes or commits where its runs differ in them."""
    mine = [origins[digest] for digest in entry["runs"] if digest in origins]
    inputs = {path: sha256 for one in mine for path, sha256 in one.inputs.items()}
    return entry | {
        "code": sorted({one.code for one in mine}),
        "git_commit": sorted({one.commit for one in mine}),
        "inputs": {path: inputs[path] for path in sorted(inputs)},
        "tables": dict(read_from),
    }
