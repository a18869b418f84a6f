"""What Weights & Biases is to show beside training: the data it stands on, and an experiment's results."""

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlm import identity, layout, metrics, projection
from mlm.files import read_json
from mlm.layout import RESULTS
from mlm.lineage import Artifact, Step
from mlm.measures import KINDS, corruption
from mlm.projection import Header, Projection, Table
from mlm.runs import RunFolder

WORDS = (
    "id", "family", "arm", "against", "measure", "expect", "verdict", "note", "stated", "stated_note",
    "seeds_added",
)  # fmt: skip
"""Columns of the analysis's tables that are text, whatever they look like."""


def of_step(run: RunFolder, step: Step) -> Projection:
    """Corpus, vocabulary or shards, as the W&B run that made the artifact."""
    made = step.output
    stated = {"lineage": {"inputs": step.inputs, "outputs": {made.name: made.metadata}}}
    known = Header(made.name, made.name, "data", made.type, projection.tags(run.config.corpus), stated)
    return Projection(known, inputs=step.inputs, output=made)


def of_experiment(scale: str, experiment: str) -> Projection | None:
    """Tables, figures and lineage of an experiment; None before its contrasts are there."""
    tables, figures = layout.tables(scale, experiment), layout.figures(scale, experiment)
    if not (tables / "contrasts.csv").exists():
        return None
    stated = projection.experiments(scale)[experiment]
    study = read_json(layout.study_file(scale), "run the pipeline again")
    runs = dict(_runs(study["index"], experiment))
    files = {path.relative_to(RESULTS / scale).as_posix(): path for path in _files(tables, figures)}
    evidence = {"evidence": study["evidence"], "scale": scale, "experiment": experiment}
    inputs = [f"weights-{run.path.name}" for run in runs.values()]
    name = f"results-{identity.digest([scale, experiment])}"
    output = Artifact(name, "results", evidence | {"runs": inputs}, files)
    return Projection(
        Header(
            id=name,
            name=f"{scale}/{experiment}",
            group=experiment,
            job_type="analysis",
            tags=projection.tags(scale, experiment),
            config={**evidence, **stated, "lineage": {"inputs": inputs}},
        ),
        tables={
            "contrasts": _read(tables / "contrasts.csv"),
            "realised_split": _realised(runs),
            "fills": _fills(runs),
        },
        images={f"figures/{path.stem}": path for path in sorted(figures.glob("*.png"))},
        inputs=inputs,
        output=output,
    )


def _runs(index: list[dict[str, Any]], experiment: str) -> Iterator[tuple[tuple[str, int], RunFolder]]:
    for cell in index:
        folder = RESULTS / "runs" / cell["digest"]
        if cell["experiment"] == experiment and (folder / "run.json").exists():
            yield (cell["arm"], cell["seed"]), RunFolder.open(folder)


def _files(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_file())


def _read(path: Path) -> Table:
    """A table of contrasts."""
    with path.open(encoding="utf-8", newline="") as stream:
        columns, *rows = csv.reader(stream)
    return Table(
        columns, [[_cell(name, cell) for name, cell in zip(columns, row, strict=True)] for row in rows]
    )


def _cell(column: str, cell: str) -> str | int | float | None:
    """A number where the column has numbers; None where there is nothing, or no finite number."""
    if column in WORDS or not cell:
        return cell or None
    if cell.lstrip("-").isdecimal():
        return int(cell)
    number = float(cell)
    return number if math.isfinite(number) else None


def _realised(runs: dict[tuple[str, int], RunFolder]) -> Table:
    """The rate and the split that were asked for, beside those that were drawn, of every run."""
    columns = [
        "arm",
        "seed",
        "mask_rate",
        "mask_rate_drawn",
        *KINDS,
        *(f"{kind}_drawn" for kind in KINDS),
        "selected",
    ]
    rows = []
    for (arm, seed), run in runs.items():
        drawn, (rate_asked, split) = run.outcome()["realised"], corruption(run.config)
        rate = drawn["selected"] / max(drawn["eligible"], 1)
        asked = [split[kind] for kind in KINDS]
        shares = [drawn[kind] / max(drawn["selected"], 1) for kind in KINDS]
        rows.append([arm, seed, rate_asked, rate, *asked, *shares, drawn["selected"]])
    return Table(columns, rows)


def _fills(runs: dict[tuple[str, int], RunFolder]) -> Table:
    """The filled prompts of each arm's first seed."""
    first: dict[str, RunFolder] = {}
    for (arm, _), run in runs.items():
        first.setdefault(arm, run)
    found = {arm: projection.fills(metrics.read(run.path / "metrics.jsonl")) for arm, run in first.items()}
    empty = Table([], [])
    columns = ["arm", *next(iter(found.values()), empty).columns]
    return Table(columns, [[arm, *row] for arm, table in found.items() for row in table.rows], html=("fills",))
