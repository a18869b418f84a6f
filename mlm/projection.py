"""What Weights & Biases is to show of a run: a pure function of the files in its folder.

Made again, it is the same; so what W&B holds can be checked, completed and replaced at any time.
"""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mlm import colour, identity, lineage, metrics
from mlm.errors import Damaged
from mlm.files import file_sha256, read_json
from mlm.layout import study_file
from mlm.lineage import Artifact
from mlm.measures import flatten
from mlm.runs import RunFolder

LOGGED = {
    "train": ("loss_nats", "learning_rate", "gradient_norm", "targets"),
    "evaluation": ("yardstick", "own"),
}
"""What is logged of a record in metrics.jsonl, by its event."""
CURVES = {"train": "train", "evaluation": "validation"}
"""Event -> what the names of its curves begin with."""
STATED = ("status", "tokens", "flops", "training_seconds", "realised", "diverged")
"""Keys of run.json that stand in the summary."""
ORIGIN = ("git", "versions", "files")
"""Keys of run.json that are added to the configuration: where the run came from, and what it left."""


class Header(NamedTuple):
    """What is known of a run before its first step."""

    id: str
    """The run's digest."""
    name: str
    """split/80-10-10/seed-0"""
    group: str
    job_type: str
    tags: list[str]
    config: dict[str, Any]


class Table(NamedTuple):
    """A table; cells of the columns named in `html` are shown as HTML."""

    columns: list[str]
    rows: list[list[Any]]
    html: tuple[str, ...] = ()


class Projection(NamedTuple):
    """A whole W&B run."""

    header: Header
    rows: list[dict[str, Any]] = []
    """The history: one row a step, in order; `step` and `tokens` are in each."""
    summary: dict[str, Any] = {}
    tables: dict[str, Table] = {}
    images: dict[str, Path] = {}
    inputs: list[str] = []
    """Names of the artifacts it used."""
    output: Artifact | None = None

    def digest(self) -> str:
        """Changes when anything that W&B shows changes."""
        images = {name: file_sha256(path) for name, path in self.images.items()}
        output = None if self.output is None else self.output.record()
        return identity.digest([*self[:4], images, self.inputs, output])


def header(run: RunFolder) -> Header:
    """Name, group, tags and configuration of a planned run."""
    labels = run.labels
    experiments = {experiment: arm for _, experiment, arm, _ in labels}
    scales = sorted({scale for scale, *_ in labels})
    return Header(
        id=run.path.name,
        name=run.name,
        group="/".join(run.name.split("/")[:2]),
        job_type="train",
        tags=tags(*scales, *experiments, run.config.corpus),
        config={
            **run.record,
            "arms": experiments,
            "scales": scales,
            "seed": run.config.seed,
            "lineage": {"inputs": {step.output.name: step.output.metadata for step in lineage.of_data(run)}},
        },
    )


def tags(*words: str) -> list[str]:
    """Tags as W&B takes them: each once, of at most 64 characters."""
    return sorted({word[:64] for word in words})


def of_run(run: RunFolder, upload_weights: bool = False) -> Projection:
    """The projection of a run that has ended."""
    outcome = run.outcome()
    known = header(run)
    records = list(metrics.read(run.path / "metrics.jsonl"))
    found = list(rows(records))
    summary = {key: outcome[key] for key in STATED} | _extremes(found)
    for path in measures(run):
        values = read_json(path, "delete it")["values"]
        summary |= {f"final/{key.replace('.', '/')}": value for key, value in values.items()}
    output = lineage.weights(run, outcome, upload_weights)
    known.config.update({key: outcome[key] for key in ORIGIN} | outcome["data"])
    known.config["lineage"]["outputs"] = {output.name: output.metadata}
    shown = {"fills": fills(records)}
    inputs = [step.output.name for step in lineage.of_data(run)[-1:]]
    return Projection(known, found, summary, shown, {}, inputs, output)


def measures(run: RunFolder) -> list[Path]:
    """The measures that exist of a run, as the studies that ask for it name them.

    Where two say differently, the first label's counts: it comes last.
    """
    found: dict[Path, None] = {}
    for scale, experiment, *_ in run.labels:
        if study_file(scale).exists():
            for name in experiments(scale).get(experiment, {}).get("measure_files", {}).values():
                if (path := run.path / name).exists():
                    found.setdefault(path)
    return [*reversed(found)]


def experiments(scale: str) -> dict[str, dict[str, Any]]:
    """What is stated of the experiments of a study that has begun, by name.

    Raises:
        Damaged: its study.json is not what planning writes.
    """
    remedy = "delete it and run the pipeline again"
    try:
        found = read_json(study_file(scale), remedy)["experiments"]
        return {name: dict(stated) for name, stated in found.items()}
    except (KeyError, TypeError, AttributeError, ValueError):
        raise Damaged(f"{study_file(scale)}: damaged, not the record of a study; {remedy}") from None


def rows(records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """One row a step of metrics.jsonl, tokens as the axis; keys `train/…` and `validation/…`.

    >>> list(rows([{"event": "train", "step": 2, "tokens": 64, "flops": 9, "train_seconds": 0.5,
    ...             "loss_nats": 7.5, "learning_rate": 0.1, "gradient_norm": 1.0, "targets": {"mask": 9}}]))
    [{'step': 2, 'tokens': 64, 'flops': 9, 'train_seconds': 0.5, 'train/loss_nats': 7.5, \
'train/learning_rate': 0.1, 'train/gradient_norm': 1.0, 'train/targets/mask': 9}]
    """
    for step, of_step in itertools.groupby(records, lambda record: record["step"]):
        row: dict[str, Any] = {"step": step}
        for record in of_step:
            row |= {key: record[key] for key in ("tokens", "flops", "train_seconds")}
            if (event := record["event"]) in LOGGED:
                terms = [key for key in record if key.endswith("_loss_nats")]  # of MLM and NSP together
                content = {key: record[key] for key in (*LOGGED[event], *terms)}
                row |= {key.replace(".", "/"): value for key, value in flatten(CURVES[event], content)}
        yield row


def _extremes(found: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Minimum and last value of each curve; W&B's own minimum is only that since its last resume."""
    curves: dict[str, list[float]] = {}
    for row in found:
        for key, value in row.items():
            if "/" in key:
                curves.setdefault(key, []).append(value)
    return {key: {"min": min(values), "last": values[-1]} for key, values in curves.items()}


def fills(records: Iterable[dict[str, Any]]) -> Table:
    """A row a prompt: how many fills are right at the end, and the coloured fills over time."""
    over_time = [(r["tokens"], r["prompts"]) for r in records if r["event"] == "fills"]
    table = []
    for number in range(len(over_time[-1][1]) if over_time else 0):
        lines = [colour.coloured(prompts[number]).append(f"   {n:,} tokens", "dim") for n, prompts in over_time]
        last = over_time[-1][1][number]
        table.append(
            [number, "".join(last["pieces"]).replace("▁", " ").strip(), *colour.score(last), colour.html(lines)]
        )
    return Table(["prompt", "text", "right", "masked", "fills"], table, html=("fills",))
