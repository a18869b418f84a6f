"""A study: validated, frozen runs, what is measured of them, and its record on disk. Loads no torch."""

import functools
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlm import compiled, identity, measured, registration
from mlm.config import Numerics, Run
from mlm.experiment import PILOT, TUNE, Experiment, Measures, Pilot, Scale, Trials
from mlm.files import read_json, write_json
from mlm.layout import RESULTS, study_file
from mlm.measured import Measured

SHOWN = ("title", "question", "claim", "reference", "cost", "baseline", "primary_measure", "figures")
"""Keys of an experiment file that the analysis is told as they are."""


@dataclass(frozen=True)
class Data:
    """The prepared data of a run, each folder named by what decides its content."""

    corpus_file: Path
    corpus: Path
    vocabulary: Path
    shards: Path
    initial: str | None = None
    """Digest of the weights that the run goes on from."""


@dataclass(frozen=True)
class PlannedRun:
    """A run to train: everything its bits depend on, and the digest of that."""

    digest: str
    config: Run
    numerics: Numerics
    data: Data
    code: str
    """What the code is called; by an accepted change, what it was called before."""
    plugins: dict[str, str] = field(default_factory=dict)
    """Path -> digest of the source, of what the run uses of the user's own."""
    accepted: str | None = None
    """Why the code goes by an older name than its bits give it (mlm.accepted)."""

    @property
    def folder(self) -> Path:
        return RESULTS / "runs" / self.digest

    @functools.cached_property
    def shape(self) -> str | None:
        """Digest of the code that its steps are compiled to; None where they are run as they are."""
        asked = self.numerics.path == "compiled" and compiled.covers(self.config)
        return compiled.shape(self.record()) if asked else None

    def record(self) -> dict[str, Any]:
        """The content of run folder's config.json; its digest names the folder."""
        return {
            "training": self.config.model_dump(),
            "numerics": self.numerics.model_dump(),
            "data": {
                "corpus": self.data.corpus.name,
                "vocabulary": self.data.vocabulary.parent.name,
                "shards": self.data.shards.name,
                **({"initial": self.data.initial} if self.data.initial else {}),
            },
            "code": self.code,
            **({"plugins": self.plugins} if self.plugins else {}),
        }


def untrained_digest(record: Mapping[str, Any]) -> str:
    """Digest of a run's encoder before its first step, from the run's record."""
    code = identity.code_hash(measured.ENCODER, ("torch", "numpy"))
    training, data = record["training"], record["data"]
    encoder = training["encoder"]
    # Runs that an older version planned lack some of the keys.
    seen = [training.get("attention"), training.get("objective") == "causal"]
    own = record.get("plugins", {}).get(encoder.get("architecture"))
    made = [encoder, training["seed"], record["numerics"], data["vocabulary"], data.get("initial"), own]
    return identity.digest([*made, *seen, code])


@dataclass(frozen=True)
class Cell:
    """One row of the index: which run an experiment's arm and seed came to."""

    experiment: str
    arm: str
    seed: int
    digest: str
    untrained: str
    """Digest of the run's encoder before its first step; arms of one seed usually share it."""


@dataclass(frozen=True)
class Study:
    """Everything a scale runs, expanded and checked."""

    scale_name: str
    scale: Scale
    numerics: Numerics
    experiments: dict[str, Experiment]
    runs: dict[str, PlannedRun]
    cells: list[Cell]
    stated: dict[str, Measures]
    """What is measured, by experiment."""
    measures: dict[str, list[Measured]]
    """The same, as files."""
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Experiments that the scale does not name and cannot run, with what is wrong with them there."""

    @property
    def folder(self) -> Path:
        return RESULTS / self.scale_name

    @property
    def trials(self) -> list[str]:
        """Experiments in which learning rates are tried and nothing is tested."""
        return [name for name, experiment in self.experiments.items() if isinstance(experiment, Trials)]

    @property
    def pilots(self) -> list[str]:
        """Experiments that tell how far pairs spread, and test nothing."""
        return [name for name, experiment in self.experiments.items() if isinstance(experiment, Pilot)]

    def measured(self, untrained: bool = False) -> list[tuple[list[Measured], list[str]]]:
        """Measures that are taken together, and of which runs or encoders before their first step.

        All that the scale's own experiments ask of a run is one job's, which starts once; a second measure of
        a name, which two of them set otherwise, is another's. What other experiments ask of a run that they
        share is taken apart, so that none waits for, or is made anew with, another's.
        """
        usual = set(self.scale.experiments)
        asked: dict[str, dict[str, tuple[Measured, set[str]]]] = {}
        for cell in self.cells:
            folder = asked.setdefault(cell.untrained if untrained else cell.digest, {})
            for one in self.measures[cell.experiment]:
                if one.of_untrained or not untrained:
                    folder.setdefault(one.file, (one, set()))[1].add(cell.experiment)
        alike: dict[tuple[str, ...], tuple[list[Measured], list[str]]] = {}
        for name, files in asked.items():
            together: dict[tuple[frozenset[str], int], list[Measured]] = {}
            named: Counter[tuple[frozenset[str], str]] = Counter()
            for one, experiments in files.values():
                apart = frozenset() if experiments & usual else frozenset(experiments)
                together.setdefault((apart, named[apart, one.name]), []).append(one)
                named[apart, one.name] += 1
            for measures in together.values():
                alike.setdefault(tuple(one.file for one in measures), (measures, []))[1].append(name)
        return list(alike.values())

    def taken(self, names: Collection[str]) -> dict[str, dict[str, Measured]]:
        """Run -> file -> measure, of all that experiments measure of it."""
        found: dict[str, dict[str, Measured]] = {}
        for cell in self.cells:
            if cell.experiment in names:
                files = found.setdefault(cell.digest, {})
                files |= {one.file: one for one in self.measures[cell.experiment]}
        return found

    def contrast_rows(self, name: str) -> list[dict[str, Any]]:
        """An experiment's contrasts with baseline and measure filled in, for the analysis."""
        experiment = self.experiments[name]
        stated = experiment.contrasts
        return stated.rows(experiment.baseline, experiment.primary_measure) if stated else []

    @property
    def contrasts(self) -> dict[str, list[dict[str, Any]]]:
        """The contrasts of every experiment that states some."""
        return {name: self.contrast_rows(name) for name, one in self.experiments.items() if one.contrasts}

    def names(self, experiment: str) -> dict[str, list[str]]:
        """Arm -> every value that is measured of its runs."""
        first = {cell.arm: cell for cell in reversed(self.cells) if cell.experiment == experiment}
        kinds = measured.kinds_of_pairs(self.measures[experiment])
        return {
            arm: measured.names(self.runs[first[arm].digest].config, self.stated[experiment], kinds)
            for arm in self.experiments[experiment].arms
        }

    def accepted(self, experiment: str) -> list[dict[str, Any]]:
        """The accepted changes of code under which runs of an experiment keep their names, with the arms."""
        found: dict[str, dict[str, None]] = {}
        for cell in self.cells:
            why = self.runs[cell.digest].accepted
            if cell.experiment == experiment and why is not None:
                found.setdefault(why, {})[cell.arm] = None
        return [{"why": why, "arms": list(arms)} for why, arms in found.items()]

    def record(self) -> dict[str, Any]:
        """The study as data: what the analysis works from (results/<scale>/study.json)."""
        return {
            "scale": self.scale_name,
            "evidence": self.scale.evidence,
            "numerics": self.numerics.model_dump(),
            "named": [name for name in self.scale.experiments if name in self.experiments],
            "experiments": {
                name: {
                    **e.model_dump(include=set(SHOWN), exclude_unset=True),
                    "arms": list(e.arms),
                    "measures": self.names(name),
                    "measure_files": {one.name: one.file for one in self.measures[name]},
                    "untrained_files": {one.name: one.file for one in self.measures[name] if one.of_untrained},
                    "contrasts": self.contrast_rows(name),
                    "tried": getattr(e, "tried", {}),
                    "accepted": self.accepted(name),
                }
                for name, e in self.experiments.items()
            },
            "index": [vars(cell) for cell in self.cells],
        }

    def write(self) -> None:
        """Fix the numerics and write the index and the runs' resolved configurations, each once."""
        write_json(self.folder / "numerics.json", self.numerics.model_dump())
        write_json(study_file(self.scale_name), self.record())
        registration.write(self.scale_name, self.contrasts)
        labels: dict[str, list[list[Any]]] = {}
        # A shared run is called after an experiment that the scale names, if one has it.
        for cell in sorted(self.cells, key=lambda cell: cell.experiment not in self.scale.experiments):
            labels.setdefault(cell.digest, []).append([self.scale_name, cell.experiment, cell.arm, cell.seed])
        left_out = {name + apart for name in self.left_out for apart in ("", TUNE, PILOT)}
        for folder in (RESULTS / "runs").glob("*"):
            if folder.name not in labels:  # of an arm that has been edited since
                write_labels(folder, [], self.scale_name, left_out)
        for digest, run in self.runs.items():
            write_run(run)
            write_labels(run.folder, labels[digest], self.scale_name, left_out)


def write_run(run: PlannedRun) -> None:
    """Write a run folder's config.json, once."""
    path = run.folder / "config.json"
    if not path.exists():
        write_json(path, run.record())


def write_labels(folder: Path, labels: list[list[Any]], scale: str, left_out: Collection[str] = ()) -> None:
    """Who asks for a run, as (scale, experiment, arm, seed); labels of other scales stay.

    Args:
        left_out: experiments of this scale that could not be planned now, whose labels stay too.
    """
    path = folder / "labels.json"
    before = read_json(path, "delete it") if path.exists() else []
    after = labels + [label for label in before if label[0] != scale or label[1] in left_out]
    if after != before:
        write_json(path, after)
