"""What a study's runs are doing: states, progress, tokens a second and time left."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from mlm.errors import Damaged, InputError
from mlm.files import is_locked, read_json
from mlm.layout import RESULTS, study_file
from mlm.runs import read_outcome

STYLES = {"finished": "green", "diverged": "magenta", "training": "cyan", "stopped": "yellow", "waiting": "dim"}


@dataclass(frozen=True)
class RunStatus:
    """One run as its folder shows it."""

    name: str
    folder: Path
    state: str
    """waiting, training, stopped (can be resumed), finished or diverged."""
    tokens: int
    budget_tokens: int
    train_seconds: float
    loss_nats: float | None
    """Held-out loss on the yardstick, the newest there is."""

    @property
    def tokens_per_second(self) -> float | None:
        return self.tokens / self.train_seconds if self.tokens and self.train_seconds else None


def study(scale: str) -> list[RunStatus]:
    """Every run of the experiments that a scale names, and of others that were begun; each run once."""
    path = study_file(scale)
    if not path.exists():
        raise InputError(f"{path}: no study of this scale has begun; `snakemake --cores all` begins one")
    remedy = "delete it and run the pipeline again"
    content = read_json(path, remedy)
    found: dict[str, RunStatus] = {}
    of: dict[str, set[str]] = {}
    try:
        named = content["named"]
        for cell in sorted(content["index"], key=lambda cell: cell["experiment"] not in named):
            name = f"{cell['experiment']}/{cell['arm']}/seed-{cell['seed']}"
            found.setdefault(cell["digest"], of_folder(RESULTS / "runs" / cell["digest"], name))
            of.setdefault(cell["experiment"], set()).add(cell["digest"])
    except (KeyError, TypeError):
        raise Damaged(f"{path}: damaged, not the index of a study; {remedy}") from None
    asked = {digest for name in named for digest in of.get(name, ())}
    for name, digests in of.items():
        others = set().union(*(of[other] for other in of if other != name))
        if any(found[digest].state != "waiting" for digest in digests - others):
            asked |= digests
    return [run for digest, run in found.items() if digest in asked]


def of_folder(folder: Path, name: str) -> RunStatus:
    """State of one run, from its files and its lock."""
    last = _tail(folder / "metrics.jsonl")
    budget = 0
    if (folder / "config.json").exists():
        budget = read_json(folder / "config.json", "run the pipeline again")["training"]["budget_tokens"]
    if (folder / "run.json").exists():
        state = str(read_outcome(folder / "run.json")["status"])
    elif is_locked(folder / "lock"):
        state = "training"
    else:
        state = "stopped" if any(folder.glob("checkpoints/*.checkpoint")) else "waiting"
    loss = last.get("yardstick", {}).get("loss_nats")
    tokens = last.get("tokens", 0) if state != "waiting" else 0
    return RunStatus(name, folder, state, tokens, budget, last.get("train_seconds", 0.0), loss)


def _tail(path: Path) -> dict[str, Any]:
    """The last whole records of metrics.jsonl, the newer over the older."""
    if not path.exists():
        return {}
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 2**16))
        lines = stream.read().split(b"\n")[:-1]
    merged: dict[str, Any] = {}
    for line in lines:
        try:
            merged |= json.loads(line)
        except ValueError:
            continue  # the first line may be cut
    return merged


def seconds_left(runs: list[RunStatus]) -> float | None:
    """Time until the last run has trained, from the speed seen so far; None before there is any."""
    speeds = [run.tokens_per_second for run in runs if run.tokens_per_second]
    if not speeds:
        return None
    live = sum(run.state == "training" for run in runs)
    workers = live or min(os.cpu_count() or 1, len(runs))
    left = sum(r.budget_tokens - r.tokens for r in runs if r.state in ("waiting", "training", "stopped"))
    return left / (sum(speeds) / len(speeds)) / workers


def duration(seconds: float | None) -> str:
    """
    >>> duration(3725), duration(59.6), duration(None)
    ('1:02:05', '1:00', '–')
    """
    if seconds is None:
        return "–"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def summary(runs: list[RunStatus]) -> str:
    """One line: how many runs in each state, and the time left for training."""
    counts = {state: sum(run.state == state for run in runs) for state in STYLES}
    told = ", ".join(f"{n} {state}" for state, n in counts.items() if n)
    left = seconds_left(runs)
    pending = len(runs) - counts["finished"] - counts["diverged"]
    return f"{len(runs)} runs: {told}" + (
        f"; about {duration(left)} of training left" if pending and left else ""
    )


def table(runs: list[RunStatus]) -> Table:
    """The runs as a person sees them."""
    found = Table(title=summary(runs), title_justify="left", box=box.SIMPLE_HEAD)
    for heading, justify in (("run", "left"), ("state", "left"), ("M tokens", "right"), ("%", "right"),
                             ("tokens/s", "right"), ("left", "right"), ("nats", "right")):  # fmt: skip
        found.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for run in runs:
        speed = run.tokens_per_second
        left = (run.budget_tokens - run.tokens) / speed if run.state == "training" and speed else None
        found.add_row(
            run.name,
            f"[{STYLES[run.state]}]{run.state}[/]",
            f"{run.tokens / 1e6:.2f}",
            f"{100 * run.tokens / run.budget_tokens:.0f}" if run.budget_tokens else "",
            f"{speed:,.0f}" if speed else "",
            duration(left) if left is not None else "",
            f"{run.loss_nats:.3f}" if run.loss_nats is not None else "",
        )
    return found
