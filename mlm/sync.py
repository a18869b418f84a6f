"""Everything that has ended -> Weights & Biases: what is not yet there, in the order of its lineage."""

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, NoReturn

from mlm import identity, lineage, projection, projection_study, runs, scales, tracking
from mlm.errors import Damaged, InputError
from mlm.files import locked, read_json, write_json
from mlm.layout import RESULTS
from mlm.progress import Progress
from mlm.projection import Projection
from mlm.runs import RunFolder

MARKS = RESULTS / "wandb" / "uploaded"


class Failed(Exception):
    """Uploads did not come to their end; what was uploaded stays so."""


class Item(NamedTuple):
    """Something to show in W&B."""

    name: str
    make: Callable[[], Projection | None]


def ended() -> list[RunFolder]:
    """The runs that have ended."""
    return [run for run in runs.everything() if (run.path / "run.json").exists()]


def items(
    there: list[RunFolder], scale: str | None, experiment: str | None, upload_weights: bool
) -> Iterator[Item]:
    """Data, ended runs and results, each after what it stands on.

    Args:
        there: the runs that have ended.
        scale: those of this scale; None means the runs of none.
        experiment: those of this experiment alone; None means all.
    """

    def asked_for(run: RunFolder) -> bool:
        if scale is None:
            return not run.labels
        return any(s == scale and experiment in (None, e) for s, e, *_ in run.labels)

    chosen = [run for run in there if asked_for(run)]
    seen = set()
    for run in chosen:
        with contextlib.suppress(Damaged):  # its own item tells so
            for step in lineage.of_data(run):
                if step.output.name not in seen:
                    seen.add(step.output.name)
                    yield Item(step.output.name, partial(projection_study.of_step, run, step))
    for run in chosen:
        yield Item(run.name, partial(projection.of_run, run, upload_weights))
    if scale is not None:
        try:
            names = [name for name in projection.experiments(scale) if experiment in (None, name)]
        except Damaged as error:
            yield Item(scale, partial(_raise, error))
        else:
            for name in names:
                yield Item(f"{scale}/{name}", partial(projection_study.of_experiment, scale, name))


def _raise(error: Damaged) -> NoReturn:
    raise error


def chosen(scale: str | None, experiment: str | None) -> list[str | None]:
    """The studies meant, and None for runs made by hand.

    Raises:
        InputError: no study is called so, or none has the experiment.
    """
    there = scales.begun()
    if scale is not None and scale not in there:
        raise InputError(f"--scale: {scales.not_begun(scale)}")
    if experiment is not None and not there:
        raise InputError(f"--experiment: {scales.not_begun(scales.DEFAULT)}")
    found = [name for name in there if scale in (None, name)]
    if experiment is not None:
        known = sorted({name for one in found for name in projection.experiments(one)})
        if experiment not in known:
            raise InputError(
                f"--experiment: no study has {experiment!r}; there are: {', '.join(known) or 'none'}"
            )
        found = [one for one in found if experiment in projection.experiments(one)]
    by_hand: list[str | None] = [None] if scale is None and experiment is None else []
    return [*found, *by_hand]


def upload(scale: str | None, experiment: str | None) -> tuple[int, int]:
    """Upload what is not yet uploaded; returns how many W&B runs were, and how many had been before.

    Each study goes where its scale file or the environment says.

    Raises:
        Failed: W&B could not be reached, or did not take everything.
    """
    studies, given, there = chosen(scale, experiment), dict(os.environ), ended()
    uploaded = before = 0
    problems: list[str] = []
    for one in studies:
        tracking.enter(one, {**given, "WANDB_MODE": "online"})
        from mlm import wandb_writer

        wandb_writer.read_environment()
        found = list(items(there, one, experiment, tracking.stated(one).upload_weights))
        progress = Progress(f"uploading {one or 'runs made by hand'}", len(found), "W&B runs")
        for item in found:
            try:
                content = item.make()
                done = None if content is None else _upload(item.name, content, wandb_writer)
            except Exception as error:  # W&B's own are many
                problems.append(_problem(item, error))
                if isinstance(error, wandb_writer.Unreachable):
                    raise Failed(_told(problems, uploaded)) from None
                done = None
            uploaded += done is True
            before += done is False
            progress.add(1)
    if problems:
        raise Failed(_told(problems, uploaded))
    if not uploaded + before:
        raise InputError("nothing has ended yet that could be uploaded; `python -m mlm status` shows the runs")
    return uploaded, before


def _problem(item: Item, error: Exception) -> str:
    return f"{item.name}: {str(error).strip() or type(error).__name__}"


def _told(problems: list[str], uploaded: int) -> str:
    return f"{'; '.join(problems)} ({uploaded} W&B runs uploaded; the same command goes on from here)"


def _upload(name: str, content: Projection, writer: ModuleType) -> bool:
    to = "/".join((writer.server(), os.environ.get("WANDB_ENTITY", ""), os.environ["WANDB_PROJECT"]))
    mark = {"name": name, "to": to, "content": content.digest()}
    place = MARKS / identity.digest(to) / f"{content.header.id}.json"
    if place.exists() and read_json(place, "delete it") == mark:
        return False
    writer.online(content)
    write_json(place, mark)
    return True


def write_offline(scale: str, experiment: str) -> int:
    """Bring the offline runs of an experiment up to its measures and results; returns how many changed.

    Raises:
        Failed: some could not be written; all others were.
    """
    from mlm import wandb_writer

    changed, problems = 0, []
    with locked(wandb_writer.LOCKS / "offline"):  # two at once would take turns at the same runs
        for item in items(ended(), scale, experiment, False):
            try:
                content = item.make()
                if content is not None and content.header.job_type in ("train", "analysis"):
                    changed += wandb_writer.offline(content)
            except Exception as error:
                problems.append(_problem(item, error))
    if problems:
        raise Failed("; ".join(problems))
    return changed


def as_configured(scale: str, experiment: str, record: Path) -> str:
    """Bring W&B up to an experiment's results in the mode that is set; a failure is told and ends nothing."""
    mode = ""
    try:
        tracking.enter(scale, dict(os.environ))
        mode = os.environ["WANDB_MODE"]
        if mode == "disabled":
            told = "Weights & Biases is disabled"
        elif mode == "online":
            told = "{} W&B runs uploaded, {} were up to date".format(*upload(scale, experiment))
        else:
            told = f"{write_offline(scale, experiment)} W&B runs written offline"
    except Exception as error:
        told = f"warning: {experiment}: Weights & Biases: {error}; {tracking.REMEDY}"
    write_json(record, {"mode": mode, "told": told})
    return told
