"""Jobs of a study that failed, by their logs. Loads no torch."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlm import logs, planner
from mlm.files import is_locked
from mlm.layout import RESULTS, run_name
from mlm.measured import together
from mlm.study import Study

KILLED = "killed, or its machine went down: it did not say how it ended"
PREPARING = ("sentences", "task", "pairs")
OF_SCALE = ("numbers", "paper", "comparison")
OF_EXPERIMENT = tuple(rule for rule in planner.ANALYSIS_RULES if rule not in OF_SCALE)
"""Rules by what their logs are called after."""


@dataclass(frozen=True)
class Failure:
    """A job whose newest start failed."""

    job: str
    """The run that it was to train, or its rule and what it was to make."""
    log: Path
    errors: list[str]
    """What it told last, one line each."""

    def __str__(self) -> str:
        return "\n".join([f"failed: {self.job}", *(f"  {error}" for error in self.errors), f"  {self.log}"])


def state(log: Path) -> tuple[str, list[str]]:
    """How a log's job ended, BEGUN while it is at work, and what it told last where it failed."""
    live = is_locked(log)  # asked first: what ends after that says so
    how, errors = logs.read(log)
    if how == logs.BEGUN and not live:
        how, errors = logs.FAILED, [*errors, KILLED][-logs.SHOWN_ERRORS :]
    return how, errors or ["it did not say why"] * (how == logs.FAILED)


def of_run(digest: str) -> Path:
    """The log of a run's training."""
    return logs.FOLDER / "train" / f"{digest}.log"


def found(runs: Mapping[str, str], wanted: Collection[str] | None) -> list[Failure]:
    """What failed and has not been made up for, training first.

    Args:
        runs: digest -> name, of the runs whose training counts.
        wanted: names of the logs of other steps that count, as `names` gives them; None for all.
    """
    of_runs, of_steps = [], []
    for path in sorted(logs.FOLDER.rglob("*.log")):
        rule, *rest = path.relative_to(logs.FOLDER).with_suffix("").parts
        if rule == "train":
            if path.stem not in runs or (RESULTS / "runs" / path.stem / "trained").exists():
                continue
        elif wanted is not None and "/".join((rule, *rest)) not in wanted:
            continue
        how, errors = state(path)
        if how != logs.FAILED:
            continue
        if rule == "train":
            of_runs.append(Failure(runs[path.stem], path, errors))
        else:
            of_steps.append(Failure(f"{rule} {'/'.join(rest)}", path, errors))
    return of_runs + of_steps


def of_study(study: Study) -> list[Failure]:
    """What failed of a study as it is planned now."""
    runs = {one.digest: run_name(one.experiment, one.arm, one.seed) for one in reversed(study.cells)}
    return found(runs, names(study))


def names(study: Study) -> set[str]:
    """Rule and name of every log that the jobs of a study keep, as in the Snakefile."""
    every = set()
    for run in study.runs.values():
        data = run.data
        every |= {f"corpus/{data.corpus.name}", f"vocabulary/{data.vocabulary.parent.name}"}
        every |= {f"shards/{data.shards.name}", f"compile/{run.shape}", f"train/{run.digest}"}
    for cell in study.cells:
        vocabulary = study.runs[cell.digest].data.vocabulary.parent.name
        prepared = {one.data(vocabulary) for one in study.measures[cell.experiment]} - {None}
        every |= {f"{rule}/{Path(str(path)).parent.name}" for path in prepared for rule in PREPARING}
    for rule, untrained in (("measure", False), ("measure_untrained", True)):
        for measures, folders in study.measured(untrained=untrained):
            every |= {f"{rule}/{folder}-{together(measures)}" for folder in folders}
    scale = study.scale_name
    every |= {f"{rule}/{scale}/{name}" for rule in OF_EXPERIMENT for name in study.experiments}
    return every | {f"{rule}/{scale}" for rule in OF_SCALE}
