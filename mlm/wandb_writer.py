"""Projection -> Weights & Biases, offline or online: the one place that talks to wandb."""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import wandb

from mlm import metrics, projection
from mlm.files import locked, write_atomically
from mlm.layout import RESULTS
from mlm.lineage import Artifact
from mlm.projection import CURVES, Header, Projection, Table
from mlm.runs import RunFolder

POLL_SECONDS = 2.0
LOCKS = RESULTS / "wandb" / "locks"
"""One client at a time on the server's run: that of a killed attempt may still be about to end."""


class Unreachable(Exception):
    """No W&B run can be opened: the first of many uploads would fail as the last."""


def read_environment() -> None:
    """Let W&B follow this process's variables as they are now; it reads them once."""
    wandb.teardown()


def offline(found: Projection) -> bool:
    """Write the offline run, in the place of an earlier one; False where that says the same already."""
    content = found.digest()
    with locked(LOCKS / found.header.id):
        earlier = _folders(found.header.id)
        if [_content(folder) for folder in earlier] == [content]:
            return False
        with opened(found.header, "offline") as run:
            place = Path(run.dir).parent
            _log(run, found.rows)
            conclude(run, found)
        write_atomically(place / "content", content + "\n")
        for folder in earlier:
            if folder.name != place.name:
                shutil.rmtree(folder)
    return True


def _folders(name: str) -> list[Path]:
    """The offline folders of a run."""
    there = (Path(os.environ["WANDB_DIR"]) / "wandb").glob("offline-run-*")
    return [folder for folder in there if re.fullmatch(r"offline-run-\d+_\d+-" + re.escape(name), folder.name)]


def _content(folder: Path) -> str:
    path = folder / "content"
    return path.read_text().strip() if path.exists() else ""


def server() -> str:
    """The address that W&B talks to: of WANDB_BASE_URL, or of the user's own settings."""
    return str(wandb.setup().settings.base_url)


def online(found: Projection) -> None:
    """Bring the server's run to the projection: steps that it lacks, summary, tables, images, lineage."""
    content = found.digest()
    with locked(LOCKS / found.header.id):
        with opened(found.header, "online") as run:
            _log(run, found.rows)
            conclude(run, found)
            _lineage(run, found)
            run.summary["content"] = content
        _check(run.path, found, content)
        shutil.rmtree(Path(run.dir).parent)  # W&B's own copy of what the server now has


def _check(path: str, found: Projection, content: str) -> None:
    """Ask the server what it holds: W&B ends a run in silence also where uploads failed."""
    last = found.rows[-1]["step"] if found.rows else None
    end = time.monotonic() + float(os.environ["WANDB_FINISH_TIMEOUT"])
    while True:  # a server may take a moment to add up what it was sent
        there = wandb.Api(timeout=30).run(path)
        if last is not None and there.lastHistoryStep != last:
            lacking = f"the server has steps up to {there.lastHistoryStep}, not {last}"
        elif there.summary.get("content") != content:  # type: ignore[no-untyped-call]
            lacking = "the server has not got the summary"
        else:
            return
        if time.monotonic() > end:
            raise RuntimeError(lacking)
        time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def opened(header: Header, mode: str) -> Iterator[wandb.Run]:
    """A W&B run under its digest; online, W&B's own resume goes on where the server stands.

    Raises:
        Unreachable: W&B opens none.
    """
    try:
        run = _init(header, mode)
    except (wandb.errors.CommError, wandb.errors.AuthenticationError, wandb.errors.UsageError) as error:
        raise Unreachable(str(error).strip() or type(error).__name__) from error
    try:
        # The server keeps an earlier attempt's values unless told again.
        run.name, run.tags = header.name, tuple(header.tags)
        _configure(run, header)
        run.define_metric("tokens")
        for curve in CURVES.values():
            run.define_metric(f"{curve}/*", step_metric="tokens", summary="min,last")
        yield run
    except BaseException:
        with contextlib.suppress(Exception):  # the first reason is the one to tell
            run.finish(exit_code=1)
        raise
    run.finish()


def _init(header: Header, mode: str) -> wandb.Run:
    return wandb.init(
        project=os.environ["WANDB_PROJECT"],
        entity=os.environ.get("WANDB_ENTITY"),
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


def _configure(run: wandb.Run, header: Header) -> None:
    run.config.update(header.config, allow_val_change=True)  # type: ignore[no-untyped-call]


def _log(run: wandb.Run, rows: Iterable[dict[str, Any]]) -> None:
    """The rows that the run has not got yet; offline it has none."""
    for row in rows:
        if row["step"] >= run.starting_step:
            run.log(row, step=row["step"], commit=True)


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
        try:
            run.use_artifact(f"{name}:latest")
        except wandb.errors.CommError as error:
            raise RuntimeError(f"{name}: its run was not uploaded ({error})") from error
    if found.output is not None:
        run.log_artifact(_artifact(found.output)).wait(timeout=int(os.environ["WANDB_FINISH_TIMEOUT"]))


def _artifact(made: Artifact) -> wandb.Artifact:
    artifact = wandb.Artifact(made.name, made.type, metadata=made.metadata)
    for name, path in made.files.items():
        artifact.add_file(str(path), name=name)
    return artifact


def track(run: RunFolder, trainer: int) -> None:
    """Bring the W&B run of a run to what its files say: at once offline, while it trains online."""
    if os.environ["WANDB_MODE"] == "online":
        follow(run, trainer)
    else:
        offline(projection.of_run(run))


def follow(run: RunFolder, trainer: int) -> None:
    """Stream a run that trains to the server, from where the server stands, until it ends."""
    with locked(LOCKS / run.path.name), opened(projection.header(run), "online") as tracked:
        _log(tracked, settled(run, trainer))
        if (run.path / "run.json").exists():
            conclude(tracked, projection.of_run(run))
        else:
            tracked.finish(exit_code=1)  # stopped: its next start goes on with this W&B run


def settled(run: RunFolder, trainer: int) -> Iterator[dict[str, Any]]:
    """Rows of a run in training that no resume writes again, until it ends or its `trainer` is gone.

    A resume repeats the steps since a checkpoint; the losses will be the same, the seconds will not.
    """
    sent, settled_to = 0, -1.0
    while True:
        ended, alone = (run.path / "run.json").exists(), os.getppid() != trainer
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
