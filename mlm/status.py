"""What a study is doing: states of its runs, tokens a second, time left, and what failed, with its error."""

import contextlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from mlm import failures, logs, planner, scales
from mlm.errors import Damaged, InputError
from mlm.files import is_locked, read_json
from mlm.layout import RESULTS, run_name, study_file
from mlm.plan import Reckoner
from mlm.runs import read_outcome
from mlm.study import Study

STYLES = {"finished": "green", "diverged": "magenta", "live": "cyan", "failed": "red",
          "stopped": "yellow", "waiting": "dim"}  # fmt: skip
ORDER = ("live", "failed", "stopped", "diverged", "finished")
REMEDY = "delete it and run the pipeline again"
SHOWN = {"tokens", "train_seconds", "yardstick"}
"""What is told of a run's metrics."""


@dataclass(frozen=True)
class RunStatus:
    """One run as its folder shows it."""

    name: str
    folder: Path
    state: str
    """waiting, live, stopped (on request; goes on), failed, finished or diverged."""
    tokens: int
    budget_tokens: int
    train_seconds: float
    loss_nats: float | None
    """Held-out loss on the yardstick, the newest there is."""

    @property
    def tokens_per_second(self) -> float | None:
        return self.tokens / self.train_seconds if self.tokens and self.train_seconds else None


def begun(scale: str) -> tuple[list[str], list[RunStatus]]:
    """The experiments that a scale names, and others that were begun; and their runs, each once."""
    named, cells = _index(scale)
    found: dict[str, RunStatus] = {}
    of: dict[str, set[str]] = {}
    for cell in sorted(cells, key=lambda cell: cell.experiment not in named):
        if cell.digest not in found:
            name = run_name(cell.experiment, cell.arm, cell.seed)
            found[cell.digest] = of_folder(RESULTS / "runs" / cell.digest, name)
        of.setdefault(cell.experiment, set()).add(cell.digest)
    asked = [name for name in named if name in of]
    for name, digests in of.items():
        others = set().union(*(of[other] for other in of if other != name))
        if name not in asked and any(found[digest].state != "waiting" for digest in digests - others):
            asked.append(name)
    mine = set().union(*(of[name] for name in asked))
    return asked, [run for digest, run in found.items() if digest in mine]


class _Cell(NamedTuple):
    """A run that an experiment asks for."""

    experiment: str
    arm: str
    seed: int
    digest: str


def _index(scale: str) -> tuple[list[str], list[_Cell]]:
    """The experiments that a scale names, and the runs of all, as its study is kept."""
    path = study_file(scale)
    if not path.exists():
        raise InputError(f"{path}: {scales.not_begun(scale)}")
    content = read_json(path, REMEDY)
    try:
        return content["named"], [_Cell(*(cell[key] for key in _Cell._fields)) for cell in content["index"]]
    except (KeyError, TypeError):
        raise Damaged(f"{path}: damaged, not the index of a study; {REMEDY}") from None


def of_folder(folder: Path, name: str) -> RunStatus:
    """State of one run, from its files and its lock."""
    last = _tail(folder / "metrics.jsonl")
    budget, config = 0, folder / "config.json"
    if config.exists():
        try:
            budget = read_json(config, "run the pipeline again")["training"]["budget_tokens"]
        except (KeyError, TypeError):
            raise Damaged(f"{config}: damaged, not the configuration of a run; {REMEDY}") from None
    how, _ = failures.state(failures.of_run(folder.name))
    if (folder / "run.json").exists():
        state = str(read_outcome(folder / "run.json")["status"])
    elif is_locked(folder / "lock") or how == logs.BEGUN:
        state = "live"
    elif how == logs.FAILED:
        state = "failed"
    else:
        state = "stopped" if any(folder.glob("checkpoints/*.checkpoint")) else "waiting"
    loss = last.get("yardstick", {}).get("loss_nats")
    tokens = last.get("tokens", 0) if state != "waiting" else 0
    return RunStatus(name, folder, state, tokens, budget, last.get("train_seconds", 0.0), loss)


def _tail(path: Path) -> dict[str, Any]:
    """What the last whole records of metrics.jsonl say, the newer over the older, back to all that is shown."""
    if not path.exists():
        return {}
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 2**16))
        lines = stream.read().split(b"\n")[:-1]
    merged: dict[str, Any] = {}
    for line in reversed(lines):
        with contextlib.suppress(ValueError, TypeError):  # the first line may be cut, and then hold anything
            merged = json.loads(line) | merged
        if merged.keys() >= SHOWN:
            break
    return merged


class Ended(NamedTuple):
    """How far the runs of an experiment have come, by what files there are; none is read."""

    ended: int
    live: int
    runs: int

    def __str__(self) -> str:
        return f"{self.ended} of {self.runs} runs"

    def seconds_left(self, each: float) -> float:
        """Time until the last has ended, if each takes so long and one more begins beside those live."""
        return (self.runs - self.ended) * each / (self.live + 1)


def ended(scale: str, experiment: str) -> Ended:
    """How far an experiment has come, at little cost however many runs there are."""
    _, cells = _index(scale)
    digests = {cell.digest for cell in cells if cell.experiment == experiment}
    folders = [RESULTS / "runs" / digest for digest in digests]
    ahead = [folder for folder in folders if not (folder / "run.json").exists()]
    live = sum(is_locked(folder / "lock") for folder in ahead)
    return Ended(len(folders) - len(ahead), live, len(folders))


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
    """How many runs are in each state."""
    counts = {state: sum(run.state == state for run in runs) for state in STYLES}
    return f"{len(runs)} runs: " + ", ".join(f"{n} {state}" for state, n in counts.items() if n)


def table(runs: list[RunStatus], title: str) -> Table:
    """The runs as a person sees them: live ones first, and an arm's waiting ones as one row."""
    found = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    found.add_column("run", overflow="fold")  # alone: a number that is cut says nothing
    found.add_column("state", no_wrap=True)
    for heading in ("M tokens", "%", "tokens/s", "left", "nats"):
        found.add_column(heading, justify="right", no_wrap=True)
    for run in sorted((run for run in runs if run.state != "waiting"), key=lambda run: ORDER.index(run.state)):
        speed = run.tokens_per_second
        left = (run.budget_tokens - run.tokens) / speed if run.state == "live" and speed else None
        found.add_row(
            run.name,
            f"[{STYLES[run.state]}]{run.state}[/]",
            f"{run.tokens / 1e6:.2f}",
            f"{100 * run.tokens / run.budget_tokens:.0f}" if run.budget_tokens else "",
            f"{speed:,.0f}" if speed else "",
            duration(left) if left is not None else "",
            f"{run.loss_nats:.3f}" if run.loss_nats is not None else "",
        )
    for arm, waiting in Counter(run.name.rpartition("/")[0] for run in runs if run.state == "waiting").items():
        found.add_row(arm, f"[{STYLES['waiting']}]{waiting} waiting[/]")
    return found


class Look:
    """A study as a person sees it, now and again."""

    def __init__(self, scale: str) -> None:
        self.scale = scale
        _index(scale)  # says that there is no study, before one is planned
        self._planned: Study | None = None
        self._unknown = ""
        """Why the time left cannot be told."""
        try:
            self._planned = planner.load_study(scale)
        except InputError as error:
            self._unknown = error.problems[0]

    def show(self) -> Group:
        """The table of runs, and what failed."""
        names, runs = begun(self.scale)
        title, note = summary(runs), self._unknown
        if self._planned and not {run.folder.name for run in runs} <= self._planned.runs.keys():
            note = "experiments or code have changed since the start; `python -m mlm plan` reckons them"
        elif self._planned and (left := self._seconds_left(names, runs)):
            title += f"; about {duration(left)} left, measures included"
        wanted = failures.names(self._planned) if self._planned else None
        failed = failures.found({run.folder.name: run.name for run in runs}, wanted)
        below = [f"time left is not told: {note}"] * bool(note) + [str(one) for one in failed]
        return Group(table(runs, title), *(Text(f"{one}\n") for one in below))

    def _seconds_left(self, names: list[str], runs: list[RunStatus]) -> float:
        assert self._planned is not None
        live = sum(run.state == "live" for run in runs)
        trained = {run.folder.name: run.tokens / run.budget_tokens for run in runs if run.budget_tokens}
        return 3600 * Reckoner(self._planned, live or None).cost(names, trained).hours
