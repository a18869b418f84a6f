"""Everything that has ended -> Weights & Biases: what is not yet there, in the order of its lineage."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mlm import lineage, projection, projection_study, runs, tracking
from mlm.errors import InputError
from mlm.experiment import Wandb
from mlm.files import locked, read_json, write_json
from mlm.layout import RESULTS
from mlm.progress import Progress
from mlm.projection import Projection

MARKS = RESULTS / "wandb" / "uploaded"


class Failed(Exception):
    """An upload did not come to its end; what came before it is kept."""


class Item(NamedTuple):
    """Something to show in W&B."""

    name: str
    make: Callable[[], Projection | None]


def items(scale: str | None, experiment: str | None, upload_weights: bool) -> Iterator[Item]:
    """Data, ended runs and results, each after what it stands on.

    Args:
        scale, experiment: those alone; None means all.
    """
    chosen = [
        run
        for run in runs.everything()
        if (run.path / "run.json").exists()
        and (
            (scale is None and experiment is None)
            or any(scale in (None, s) and experiment in (None, e) for s, e, *_ in run.labels)
        )
    ]
    seen = set()
    for run in chosen:
        for step in lineage.of_data(run):
            if step.output.name not in seen:
                seen.add(step.output.name)
                yield Item(step.output.name, partial(projection_study.of_step, run, step))
    for run in chosen:
        yield Item(run.name, partial(projection.of_run, run, upload_weights))
    for file in sorted(RESULTS.glob("*/study.json")):
        for name in read_json(file, "run the pipeline again")["experiments"]:
            here = file.parent.name
            if scale in (None, here) and experiment in (None, name):
                yield Item(f"{here}/{name}", partial(projection_study.of_experiment, here, name))


def settings(scale: str | None) -> Wandb:
    """The scale file's `wandb:`, or what stands without one; W&B's variables are set from it."""
    os.environ.update(tracking.environment(scale))
    (Path(os.environ["WANDB_DIR"]) / "wandb").mkdir(parents=True, exist_ok=True)
    return tracking.stated(scale)


def upload(scale: str | None, experiment: str | None) -> tuple[int, int]:
    """Upload what is not yet uploaded; returns how many W&B runs were and how many had been before.

    Raises:
        Failed: W&B could not be reached, or did not take everything.
    """
    stated = settings(scale)
    os.environ["WANDB_MODE"] = "online"
    from mlm import wandb_writer

    found = list(items(scale, experiment, stated.upload_weights))
    if not found:
        raise InputError("nothing has ended yet that could be uploaded; `python -m mlm status` shows the runs")
    progress = Progress("uploading", len(found), "W&B runs")
    uploaded = 0
    with locked(MARKS.parent / "sync.lock"):
        for item in found:
            content = item.make()
            if content is not None:
                uploaded += _upload(item.name, content, wandb_writer.online, uploaded)
            progress.add(1)
    return uploaded, len(found) - uploaded


def _upload(name: str, content: Projection, online: Callable[[Projection], None], before: int) -> bool:
    place = MARKS / f"{content.header.id}.json"
    server = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    mark = {
        "name": name,
        "to": "/".join((server, os.environ.get("WANDB_ENTITY", ""), os.environ["WANDB_PROJECT"])),
        "content": content.digest(),
    }
    if place.exists() and read_json(place, "delete it") == mark:
        return False
    try:
        online(content)
    except Exception as error:  # W&B's own are many
        told = str(error) or type(error).__name__
        raise Failed(f"{name}: {told} ({before} uploaded; the same command goes on from here)") from None
    write_json(place, mark)
    return True


def write_offline(scale: str, experiment: str) -> int:
    """Bring the offline runs of an experiment up to its measures and results; returns how many changed."""
    settings(scale)
    from mlm import wandb_writer

    made = (item.make() for item in items(scale, experiment, False))
    return sum(wandb_writer.offline(one) for one in made if one is not None and one.header.group != "data")


def as_configured(scale: str, experiment: str, record: Path) -> str:
    """Bring W&B up to an experiment's results in the mode that is set; a failure is told and ends nothing."""
    settings(scale)
    mode = os.environ["WANDB_MODE"]
    try:
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
