"""Projection -> Weights & Biases, offline or online: the one place that talks to wandb."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import wandb

from mlm import metrics, projection
from mlm.files import locked
from mlm.layout import RESULTS
from mlm.lineage import Artifact
from mlm.projection import CURVES, Header, Projection, Table
from mlm.runs import RunFolder

POLL_SECONDS = 2.0
LOCKS = RESULTS / "wandb" / "locks"
"""One client at a time on the server's run: that of a killed attempt may still be about to end."""


def offline(found: Projection) -> bool:
    """Write the offline run, in the place of an earlier one; False where that says the same already."""
    earlier = list((RESULTS / "wandb").glob(f"offline-run-*-{found.header.id}"))
    content = found.digest()
    if [_content(folder) for folder in earlier] == [content]:
        return False
    for folder in earlier:
        shutil.rmtree(folder)
    with opened(found.header, "offline") as run:
        place = Path(run.dir).parent
        for row in found.rows:
            run.log(row, step=row["step"], commit=True)
        conclude(run, found)
    (place / "content").write_text(content + "\n")
    return True


def _content(folder: Path) -> str:
    path = folder / "content"
    return path.read_text().strip() if path.exists() else ""


def online(found: Projection) -> None:
    """Bring the server's run to the projection: steps that it lacks, summary, tables, images, lineage."""
    content = found.digest()
    with locked(LOCKS / found.header.id):
        with opened(found.header, "online") as run:
            for row in found.rows:
                if row["step"] >= run.starting_step:
                    run.log(row, step=row["step"], commit=True)
            conclude(run, found)
            _lineage(run, found)
            run.summary["content"] = content
        _check(run.path, found, content)


def _check(path: str, found: Projection, content: str) -> None:
    """Ask the server what it holds: W&B ends a run in silence also where uploads failed."""
    there = wandb.Api(timeout=30).run(path)
    last = found.rows[-1]["step"] if found.rows else None
    if last is not None and there.lastHistoryStep != last:
        raise RuntimeError(f"the server has steps up to {there.lastHistoryStep}, not {last}")
    if there.summary.get("content") != content:  # type: ignore[no-untyped-call]
        raise RuntimeError("the server has not got the summary")


@contextlib.contextmanager
def opened(header: Header, mode: str) -> Iterator[wandb.Run]:
    """A W&B run under its digest; online, W&B's own resume goes on where the server stands."""
    run = wandb.init(
        id=header.id,
        name=header.name,
        group=header.group,
        job_type=header.job_type,
        tags=header.tags,
        config=header.config,
        mode=mode,  # type: ignore[arg-type]
        resume="allow" if mode == "online" else None,
        reinit="finish_previous",
        settings=wandb.Settings(
            console="off",
            silent=True,
            # Nothing about the machine or its user: what matters is in the configuration.
            x_disable_stats=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
            disable_git=True,
            disable_code=True,
            host="local",
            finish_timeout_raises=True,
        ),
    )
    try:
        # The server keeps an earlier attempt's values unless told again.
        run.name, run.tags = header.name, tuple(header.tags)
        _configure(run, header)
        run.define_metric("tokens")
        for curve in CURVES.values():
            run.define_metric(f"{curve}/*", step_metric="tokens", summary="min,last")
        yield run
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()


def _configure(run: wandb.Run, header: Header) -> None:
    run.config.update(header.config, allow_val_change=True)  # type: ignore[no-untyped-call]


def conclude(run: wandb.Run, found: Projection) -> None:
    """What is known at the end: configuration, summary, tables and images."""
    _configure(run, found.header)
    tables = {name: _table(table) for name, table in found.tables.items()}
    images = {name: wandb.Image(str(path)) for name, path in found.images.items()}
    run.summary.update({**found.summary, **tables, **images})


def _table(table: Table) -> wandb.Table:
    html = [table.columns.index(name) for name in table.html]
    shown = wandb.Table(columns=[*table.columns])
    for row in table.rows:
        shown.add_data(*(wandb.Html(cell, inject=False) if i in html else cell for i, cell in enumerate(row)))
    return shown


def _lineage(run: wandb.Run, found: Projection) -> None:
    """The edges of W&B's graph: what this run used, and what it made."""
    for name in found.inputs:
        run.use_artifact(f"{name}:latest")
    if found.output is not None:
        run.log_artifact(_artifact(found.output)).wait(timeout=int(os.environ["WANDB_FINISH_TIMEOUT"]))


def _artifact(made: Artifact) -> wandb.Artifact:
    artifact = wandb.Artifact(made.name, made.type, metadata=made.metadata)
    for name, path in made.files.items():
        artifact.add_file(str(path), name=name)
    return artifact


def track(run: RunFolder) -> None:
    """Bring the W&B run of a run to what its files say: at once offline, while it trains online."""
    if os.environ["WANDB_MODE"] == "online":
        follow(run)
    else:
        offline(projection.of_run(run))


def follow(run: RunFolder) -> None:
    """Stream a run that trains to the server, from where the server stands, until it ends."""
    with locked(LOCKS / run.path.name), opened(projection.header(run), "online") as tracked:
        for row in settled(run, os.getppid()):
            if row["step"] >= tracked.starting_step:
                tracked.log(row, step=row["step"], commit=True)
        if (run.path / "run.json").exists():
            conclude(tracked, projection.of_run(run))
        else:
            tracked.finish(exit_code=1)  # stopped: its next start goes on with this W&B run


def settled(run: RunFolder, parent: int) -> Iterator[dict[str, Any]]:
    """Rows of a run in training that no resume writes again, until it ends or `parent` is gone.

    A resume repeats the steps since a checkpoint; the losses will be the same, the seconds will not.
    """
    sent, settled_to = 0, -1.0
    while True:
        ended, alone = (run.path / "run.json").exists(), os.getppid() != parent
        steps = [int(path.stem) for path in (run.path / "checkpoints").glob("*.checkpoint")]
        # The older of two: should the newer be damaged, the run goes on from it.
        limit = float("inf") if ended else min(steps, default=-1)
        if limit > settled_to:
            settled_to = limit
            records = metrics.read(run.path / "metrics.jsonl", growing=True)
            found = list(projection.rows(record for record in records if record["step"] <= limit))
            yield from found[sent:]
            sent = len(found)
        if ended or alone:
            return
        time.sleep(POLL_SECONDS)
