"""reference.json: what is published of an experiment's runs, for others to check theirs against.

Machine, numerics, versions, inputs and code; each arm's configuration; and of each run the hashes of its
weights and of its curve, what is exact on every machine, and the values that the experiment is about.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from analysis import runs, setup, tidy
from analysis.study import Study, problems
from mlm.errors import Damaged
from mlm.files import read_json
from mlm.measures import KINDS
from mlm.yaml_file import Strict

FILE = "reference.json"
YARDSTICKS = (tidy.YARDSTICK, tidy.TEST_YARDSTICK)


class Run(Strict):
    """A run that has ended."""

    arm: str
    seed: int
    run: str
    weights_sha256: str
    curve_sha256: str
    """Of metrics.jsonl without its seconds."""
    exact: dict[str, int]
    """What was read, spent and drawn: the same on every machine."""
    values: dict[str, float]
    """Of the measures that contrasts are about, the yardsticks, and the primary measure."""


class Reference(Strict):
    """The runs of an experiment. What is not one for all of them is None."""

    machine: runs.Machine | None
    gpu: str | None = None
    """The type of GPU that trained them, where one did."""
    numerics: dict[str, Any]
    versions: dict[str, str]
    inputs: dict[str, Any]
    codes: dict[str, str]
    """Arm -> code that trained its runs."""
    arms: dict[str, dict[str, Any]]
    """Arm -> its runs' configuration, seed apart."""
    runs: list[Run]

    def run(self, arm: str, seed: int) -> Run | None:
        """The run of an arm and a seed."""
        return next((one for one in self.runs if (one.arm, one.seed) == (arm, seed)), None)


def of(study: Study, name: str) -> Reference:
    """The runs of an experiment that have ended, from what they left and from the tables of `collect`."""
    collected, cells = tidy.load(study.scale, name), study.cells(name)
    ended = [(cell, record) for cell in cells if (record := runs.run(cell.digest))]
    numerics = runs.config(cells[0].digest)["numerics"]
    machines = [record.machine for _, record in ended]
    inputs = [
        {"corpus_sha256": one.corpus_sha256, "vocabulary_sha256": one.vocabulary_sha256}
        for one in (record.inputs for _, record in ended)
    ]
    gpus = {record.device for _, record in ended} if numerics["device"] == "cuda" else set()
    stated = study.experiment(name)
    told = dict.fromkeys((*(c.measure for c in stated.contrasts), *YARDSTICKS, stated.primary_measure))
    return Reference(
        machine=machines[0] if machines and all(one == machines[0] for one in machines) else None,
        gpu=gpus.pop() if len(gpus) == 1 else None,
        numerics=numerics,
        versions=setup.versions(study, name),
        inputs=inputs[0] if inputs and all(one == inputs[0] for one in inputs) else {},
        codes={cell.arm: record.code for cell, record in ended},
        arms={cell.arm: configuration(cell.digest) for cell in study.first_cells(name)},
        runs=[
            Run(
                arm=cell.arm,
                seed=cell.seed,
                run=cell.digest,
                weights_sha256=record.files["weights.safetensors"],
                curve_sha256=curve_sha256(runs.metrics(record)),
                exact=exact(record),
                values=_values(collected, cell.arm, cell.seed, told),
            )
            for cell, record in ended
        ],
    )


def configuration(digest: str) -> dict[str, Any]:
    """What a run was asked to do, its seed apart."""
    return {key: value for key, value in runs.config(digest)["training"].items() if key != "seed"}


def exact(record: runs.RunFile) -> dict[str, int]:
    """What does not depend on the machine: draws are a function of (seed, purpose, step)."""
    realised = {f"realised.{key}": getattr(record.realised, key) for key in ("eligible", "selected", *KINDS)}
    return {"steps": record.steps, "tokens": record.tokens, "flops": record.flops, **realised}


def curve_sha256(lines: Iterable[dict[str, Any]]) -> str:
    """SHA-256 of the lines of metrics.jsonl, which say the same in every repetition but for the seconds.

    >>> a = [{"step": 1, "loss_nats": 7.0, "train_seconds": 0.2}]
    >>> curve_sha256(a) == curve_sha256([a[0] | {"train_seconds": 0.3}])
    True
    """
    text = "".join(
        json.dumps({key: value for key, value in line.items() if key != "train_seconds"}) + "\n"
        for line in lines
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _values(collected: tidy.Collected, arm: str, seed: int, names: Iterable[str]) -> dict[str, float]:
    found = {name: collected.values(arm, name) for name in names}
    return {name: float(values[seed]) for name, values in found.items() if seed in values.index}


def load(place: Path) -> Reference | None:
    """The runs of a published experiment; None where an older version published it without them.

    Raises:
        Damaged: the file is not what was published.
    """
    path, remedy = place / FILE, f"delete {place} and publish {place.name} again"
    if not path.exists():
        return None
    try:
        return Reference.model_validate(read_json(path, remedy))
    except ValidationError as error:
        raise Damaged(*(f"{path}: {problem}; {remedy}" for problem in problems(error))) from None
