"""A run's folder -> its records, each checked against what the run said about it.

Absent means not finished and is None; a file that is there but is not what was written is refused.
"""

import json
import math
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from analysis.study import problems
from mlm import identity, yaml_file
from mlm.config import Run
from mlm.errors import Damaged
from mlm.files import file_sha256, read_json
from mlm.layout import RESULTS
from mlm.metrics import read as read_metrics

Model = TypeVar("Model", bound="_Record")
Status = Literal["finished", "diverged"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Divergence(_Record):
    """Where the loss stopped being finite."""

    step: int
    learning_rate: float


class Realised(_Record):
    """Tokens over the whole run: eligible, selected, these by what stood in their place, and predicted."""

    eligible: int
    selected: int
    mask: int
    same: int
    random: int
    predicted: int

    @model_validator(mode="before")
    @classmethod
    def _all_predicted(cls, given: Any) -> Any:
        """Runs of older versions do not say; they predicted all that they selected."""
        return {"predicted": given.get("selected"), **given} if isinstance(given, dict) else given


class Git(_Record):
    """The commit that the run was made from; None outside a repository."""

    commit: str | None
    dirty: bool | None

    @property
    def words(self) -> str:
        """The commit, `+dirty` where the work tree, published results apart, had changes that are in none."""
        return f"{self.commit or 'no repository'}{'+dirty' if self.dirty else ''}"


class SplitSize(_Record):
    """Size of one split of the corpus."""

    documents: int
    characters: int
    bytes: int
    tokens: int


class TextSource(_Record):
    """One of the sources of a corpus, and the package and hash, or data set, that it is."""

    title: str
    licence: str
    origin: str


class Corpus(_Record):
    """The text a run was trained on."""

    title: str
    licence: str
    sources: list[TextSource] = []
    splits: dict[str, SplitSize]


class RunData(_Record):
    """The data of a run."""

    corpus: Corpus


class Inputs(_Record):
    """SHA-256 of what a run was trained on."""

    corpus_sha256: dict[str, str] = {}
    """By split."""
    vocabulary_sha256: str = ""
    manifests_sha256: dict[str, str] = {}
    """Of corpus.json and shards.json, as `corpus` and `shards`; older runs have none."""


class Machine(_Record):
    """The type of processor that a run was trained on; see `mlm.machine`."""

    architecture: str
    vendor: str
    family: str
    model: str
    flags: tuple[str, ...]

    def __str__(self) -> str:
        what = f"{self.architecture} {self.vendor} family {self.family} model {self.model}"
        return f"{what}: {' '.join(self.flags)}"


class RunFile(_Record):
    """run.json: how a run ended."""

    digest: str
    status: Status
    steps: int
    tokens: int
    flops: int
    training_seconds: float
    wall_seconds: float
    peak_memory_bytes: int | None = None
    realised: Realised
    diverged: Divergence | None
    files: dict[str, str]
    code: str
    git: Git
    versions: dict[str, str]
    device: str
    inputs: Inputs = Inputs()
    machine: Machine | None = None
    """Runs of older versions do not say."""
    data: RunData


class Moment(_Record):
    """A measure of the weights that a run kept on the way."""

    step: int
    tokens: int
    values: dict[str, float]


class Examples(_Record):
    """Of an accuracy: what every example held out adds to it, numbers with blanks between."""

    right: str
    of: str


class MeasureFile(_Record):
    """A measure of a run, or of its encoder before the first step."""

    run: str
    measure: str
    status: Status
    values: dict[str, float]
    references: dict[str, float] = {}
    """What needs no such run, on the same data."""
    counts: dict[str, int] = {}
    seconds: dict[str, float] = {}
    """Values that differ between machines."""
    over_training: list[Moment] = []
    examples: dict[str, Examples] = {}
    data: dict[str, str] = {}
    """Prepared files that were read beside the run: path -> SHA-256; older measures do not say."""


def folder(digest: str) -> Path:
    """Where a run lies."""
    return RESULTS / "runs" / digest


def config(digest: str) -> dict[str, Any]:
    """config.json: the resolved configuration, whose digest is the run's name."""
    path = folder(digest) / "config.json"
    content: dict[str, Any] = read_json(path, "plan the study again")
    if identity.digest(content) != digest:
        raise Damaged(
            f"{path}: altered (its digest is not the folder's name); delete it and plan the study again"
        )
    return content


def planned(digest: str) -> Run:
    """What config.json asks for."""
    path = folder(digest) / "config.json"
    return yaml_file.validated(Run, config(digest)["training"], str(path), "training")


def run(digest: str) -> RunFile | None:
    """run.json, or None while the run has not ended."""
    path = folder(digest) / "run.json"
    if not path.exists():
        return None
    record = _validated(RunFile, path, f"delete {path.parent} and train again")
    if record.digest != digest:
        raise Damaged(f"{path}: digest: is of run {record.digest}; delete {path.parent} and train again")
    if (record.status == "diverged") != (record.diverged is not None):
        raise Damaged(
            f"{path}: diverged: disagrees with status {record.status}; delete {path.parent} and train again"
        )
    return record


def metrics(record: RunFile) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl of a run that has ended.

    Raises:
        Damaged: the file is not, byte for byte, what the run ended with.
    """
    path = folder(record.digest) / "metrics.jsonl"
    remedy = f"restore it, or delete {path.parent} and train again"
    if not path.exists():
        raise Damaged(f"{path}: missing; {remedy}")
    expected = record.files.get("metrics.jsonl")
    if file_sha256(path) != expected:
        raise Damaged(f"{path}: truncated or altered (its SHA-256 is not the one in run.json); {remedy}")
    return list(read_metrics(path))


def measured(place: Path, file: str, measure: str, status: Status | None) -> MeasureFile | None:
    """A measure's file in a run's folder, or None where it is not there yet.

    Args:
        place: folder of the run, or of an untrained encoder; its name is the digest.
        file: file name.
        measure: its name, such as `probe`.
        status: how the run ended, which the file must agree with; None for an untrained encoder.
    """
    path = place / file
    if not path.exists():
        return None
    remedy = f"delete it and measure again ({measure})"
    record = _validated(MeasureFile, path, remedy)
    for key, found, wanted in (("run", record.run, place.name), ("measure", record.measure, measure)):
        if found != wanted:
            raise Damaged(f"{path}: {key}: is {found!r}, not {wanted!r}; {remedy}")
    if status is not None and record.status != status:
        raise Damaged(f"{path}: status: is {record.status}, but the run {status}; {remedy}")
    parts = [
        record.values,
        record.references,
        record.seconds,
        *(moment.values for moment in record.over_training),
    ]
    bad = [name for part in parts for name, value in part.items() if not math.isfinite(value)]
    if bad:
        raise Damaged(f"{path}: values.{bad[0]}: not a finite number; {remedy}")
    # None to give: every restart diverged, or no byte of a text has a likelihood.
    nothing = record.counts.get("diverged") or record.counts.get("bytes") == 0
    if record.status == "finished" and not record.values and not nothing:
        raise Damaged(f"{path}: values: none, though the run finished; {remedy}")
    return record


def parameters(digest: str) -> int | None:
    """Number of trained parameters, from the header of weights.safetensors; None where it was removed."""
    path = folder(digest) / "weights.safetensors"
    if not path.exists():
        return None
    try:
        with path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size))
        return sum(int(math.prod(entry["shape"])) for name, entry in header.items() if name != "__metadata__")
    except (ValueError, KeyError, TypeError, MemoryError, OverflowError):
        raise Damaged(f"{path}: truncated or altered; delete {path.parent} and train again") from None


def _validated(model: type[Model], path: Path, remedy: str) -> Model:
    content = read_json(path, remedy)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise Damaged(*(f"{path}: {problem}; {remedy}" for problem in problems(error))) from None
