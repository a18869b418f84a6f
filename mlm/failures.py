"""Jobs of a study that failed, by their logs. Loads no torch."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mlm import logs
from mlm.files import is_locked
from mlm.measured import together
from mlm.study import Study

KILLED = "killed, or its machine went down: it did not say how it ended"
PREPARING = ("sentences", "task", "pairs")
OF_EXPERIMENT = ("collect", "tune", "contrasts", "table", "figures", "wandb", "report_page")
OF_SCALE = ("numbers", "paper", "comparison")
"""Rules by what their logs are called after."""


@dataclass(frozen=True)
class Failure:
    """A job whose newest start failed."""

    log: Path
    errors: list[str]
    """What it told last, one line each."""

    @property
    def job(self) -> str:
        """Its rule and what it was to make.

        >>> Failure(logs.FOLDER / "collect" / "laptop" / "split.log", []).job
        'collect laptop/split'
        """
        rule, *name = self.log.relative_to(logs.FOLDER).with_suffix("").parts
        return f"{rule} {'/'.join(name)}"


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


def of_steps(wanted: Collection[str] | None) -> list[Failure]:
    """Steps beside training that failed.

    Args:
        wanted: names of the logs that count, as `names` gives them; None for all.
    """
    found = []
    for path in sorted(logs.FOLDER.rglob("*.log")):
        name = path.relative_to(logs.FOLDER).with_suffix("").as_posix()
        if name.startswith("train/") or (wanted is not None and name not in wanted):
            continue
        how, errors = state(path)
        if how == logs.FAILED:
            found.append(Failure(path, errors))
    return found


def names(study: Study) -> set[str]:
    """Rule and name of every log that the jobs of a study keep, as in the Snakefile."""
    found = set()
    for run in study.runs.values():
        data = run.data
        found |= {f"corpus/{data.corpus.name}", f"vocabulary/{data.vocabulary.parent.name}"}
        found |= {f"shards/{data.shards.name}", f"compile/{run.shape}", f"train/{run.digest}"}
    for cell in study.cells:
        vocabulary = study.runs[cell.digest].data.vocabulary.parent.name
        prepared = {one.data(vocabulary) for one in study.measures[cell.experiment]} - {None}
        found |= {f"{rule}/{Path(str(path)).parent.name}" for path in prepared for rule in PREPARING}
    for rule, untrained in (("measure", False), ("measure_untrained", True)):
        for measures, folders in study.measured(untrained=untrained):
            found |= {f"{rule}/{folder}-{together(measures)}" for folder in folders}
    scale = study.scale_name
    found |= {f"{rule}/{scale}/{name}" for rule in OF_EXPERIMENT for name in study.experiments}
    return found | {f"{rule}/{scale}" for rule in OF_SCALE}
