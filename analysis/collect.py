"""Runs on disk -> the tidy tables of an experiment. Nothing is filled in, nothing damaged is read."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis import codes, outputs, provenance, run_files, runs, tidy
from analysis.study import Cell, Study
from mlm import layout, measures
from mlm.errors import Damaged
from mlm.files import file_sha256, write_json

REALISED = ("eligible", "selected", "mask", "same", "random", "predicted")
TRAINING = ("tokens", "steps", "flops")
PLANNED = ""
Row = tuple[Any, ...]


@dataclass
class _Tables:
    results: list[Row] = field(default_factory=list)
    curves: list[Row] = field(default_factory=list)
    seconds: list[Row] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    codes: dict[str, list[str]] = field(default_factory=dict)
    """Code -> the runs it trained; the planned code, by whatever paths through it, is called PLANNED."""
    planned: set[str] = field(default_factory=set)
    """What the planned code goes by; runs that take other paths through it have other names."""
    commits: dict[str, list[str]] = field(default_factory=dict)
    read: dict[str, str] = field(default_factory=dict)
    partial: bool = False

    def stand_on(self, found: Iterable[run_files.Vouched]) -> None:
        """Note files that the results stand on.

        Raises:
            Damaged: another run says something else of one.
        """
        for path, sha256 in found:
            if self.read.setdefault(path, sha256) != sha256:
                raise Damaged(
                    f"{path}: was not the same file for all runs (SHA-256 {self.read[path][:16]} and "
                    f"{sha256[:16]}); delete its folder and the runs that had the other one, and run again"
                )


def collect(study: Study, experiment: str, mixed: bool = False) -> None:
    """Write results.csv, curves.csv, seconds.csv and collected.json of an experiment.

    A run not finished leaves the experiment partial; a run that diverged is a result of that kind.

    Args:
        mixed: take runs of different code together; every output then says so.

    Raises:
        InputError: damaged files, each named, or runs of different code; nothing is written then.
    """
    tables = _Tables()
    damaged: list[str] = []
    for cell in study.cells(experiment):
        try:
            _add(study, cell, tables)
        except Damaged as error:
            damaged.extend(problem for problem in error.problems if problem not in damaged)
    if damaged:
        raise Damaged(*damaged)
    by_code = {
        codes.named(tables.planned) if code == PLANNED else code: of for code, of in tables.codes.items()
    }
    planned: dict[str, list[str]] = {codes.named(tables.planned): []} if by_code else {}
    codes.refuse_mixed(planned | by_code, experiment, mixed)
    place = layout.tables(study.scale, experiment)
    provenance.forget("collect", study.scale, experiment)
    (place / "collected.json").unlink(missing_ok=True)  # until the end, what lies here is not vouched for
    tidy.write_csv(place / "results.csv", tables.results, tidy.RESULTS)
    tidy.write_csv(place / "curves.csv", tables.curves, tidy.CURVES)
    tidy.write_csv(place / "seconds.csv", tables.seconds, tidy.SECONDS)
    manifest = {
        "experiment": experiment,
        "partial": tables.partial,
        "runs": {state: tables.states[state] for state in ("finished", "diverged", "unfinished")},
        "planned": codes.named(tables.planned),
        "codes": {code: sorted(by_code[code]) for code in sorted(by_code)},
        "accepted": [change.model_dump() for change in study.experiment(experiment).accepted],
        "commits": {commit: sorted(tables.commits[commit]) for commit in sorted(tables.commits)},
        "files": {name: file_sha256(place / name) for name in ("results.csv", "curves.csv")},
    }
    write_json(place / "collected.json", manifest)
    written = outputs.files("collect", study.scale, experiment)
    told = study.stated(experiment)
    provenance.write("collect", study.scale, experiment, study=told, read=tables.read, wrote=written)


def _add(study: Study, cell: Cell, tables: _Tables) -> None:
    names = study.experiment(cell.experiment).measures[cell.arm]
    planned = runs.config(cell.digest)["code"]
    tables.planned.add(planned)
    record = runs.run(cell.digest)
    label = (cell.experiment, cell.arm, cell.seed)
    status = record.status if record else "unfinished"
    found: dict[str, float] = {}
    complete = record is not None
    if record is not None:
        accepted = any(cell.arm in change.arms for change in study.experiment(cell.experiment).accepted)
        code = PLANNED if record.code == planned or accepted else record.code
        tables.codes.setdefault(code, []).append(cell.digest)
        tables.commits.setdefault(record.git.words, []).append(cell.digest)
        tables.stand_on(run_files.of_run(record))
        tables.stand_on(run_files.of_data(record))
        tables.curves += [(*label, *row) for row in _curves(runs.metrics(record))]
        tables.seconds += [(*label, key, value) for key, value in _machine(record)]
        for name, file in study.experiment(cell.experiment).measure_files.items():
            measure = runs.measured(runs.folder(cell.digest), file, name, record.status)
            complete &= measure is not None
            if measure is not None:
                _check(runs.folder(cell.digest) / file, name, measure, names)
                tables.stand_on(run_files.of_measure(runs.folder(cell.digest) / file, measure))
                found |= dict(_values(name, measure))
                tables.curves += [(*label, *row) for row in _over_training(measure, record.tokens)]
                tables.seconds += [(*label, key, value) for key, value in measure.seconds.items()]
        found |= {f"realised.{key}": getattr(record.realised, key) for key in REALISED}
        found |= {f"training.{key}": getattr(record, key) for key in TRAINING}
    status = status if complete else "unfinished"
    tables.states[status] += 1
    tables.partial |= not complete
    for name in dict.fromkeys((*(name for name in names if "*" not in name), *found)):
        # A finished run simply lacks what it does not have (no target of a kind was drawn).
        if name in found or status != "finished":
            tables.results.append((*label, name, found.get(name), status, cell.digest))
    _add_untrained(study, cell, tables)


def _check(path: Path, name: str, measure: runs.MeasureFile, names: Iterable[str]) -> None:
    told = [key for values in (measure.values, *(m.values for m in measure.over_training)) for key in values]
    if unknown := measures.unknown(told, names):
        raise Damaged(
            f"{path}: values.{unknown[0]}: no measure of this run is called so; "
            f"delete it and measure again ({name})"
        )


def _values(name: str, measure: runs.MeasureFile) -> Iterator[tuple[str, float]]:
    """Values by their own names; references and counts, which measures may call alike, by the measure."""
    yield from measure.values.items()
    task = name.rpartition(".")[2]
    for key, value in measure.references.items():
        yield f"reference.{name}.{key.removeprefix(f'{task}.')}", value
    for key, value in measure.counts.items():
        yield f"count.{name}.{key}", value


def _over_training(measure: runs.MeasureFile, tokens: int) -> Iterator[tuple[int, str, float]]:
    """(tokens, measure, value) of the kept weights, and of those at the end where there are any."""
    known: set[str] = set()
    for moment in measure.over_training:
        known |= moment.values.keys()
        yield from ((moment.tokens, key, value) for key, value in moment.values.items())
    # At the end more is known, such as what each layer tells: a curve of one point.
    yield from ((tokens, key, value) for key, value in measure.values.items() if key in known)


def _add_untrained(study: Study, cell: Cell, tables: _Tables) -> None:
    """Measures of the encoder before its first step, as `untrained.…` of the cell."""
    place = layout.RESULTS / "untrained" / cell.untrained
    label = (cell.experiment, cell.arm, cell.seed)
    for name, file in study.experiment(cell.experiment).untrained_files.items():
        measure = runs.measured(place, file, name, None)
        if measure is None:
            tables.partial = True
            row = (*label, f"untrained.{name}", None, "unfinished", cell.untrained)
            tables.results.append(row)
            continue
        tables.stand_on(run_files.of_measure(place / file, measure))
        for key, value in measure.values.items():
            tables.results.append((*label, f"untrained.{key}", value, measure.status, cell.untrained))


def _curves(lines: list[dict[str, Any]]) -> Iterator[tuple[int, str, float | None]]:
    """(tokens, measure, value) of the training and evaluation events."""
    for line in lines:
        if line["event"] == "train":
            for name in ("loss_nats", "learning_rate", "gradient_norm"):
                yield line["tokens"], f"train.{name}", _finite(line[name])
        elif line["event"] == "evaluation":
            content = {corruption: line[corruption] for corruption in measures.CORRUPTIONS}
            for name, value in measures.flatten("validation", content):
                yield line["tokens"], name, _finite(value)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _machine(record: runs.RunFile) -> Iterator[tuple[str, float]]:
    yield "training_seconds", record.training_seconds
    yield "wall_seconds", record.wall_seconds
    if record.training_seconds > 0:
        yield "tokens_per_second", round(record.tokens / record.training_seconds, 1)
    if record.peak_memory_bytes is not None:
        yield "peak_memory_bytes", record.peak_memory_bytes
