"""Time to quality: held-out yardstick loss over seconds of CPU, for this package and its peers.

All learn from the same text in the same vocabulary, at the shape `tiny`, and are asked on the same frozen
masks. Seconds are the training process's own on one core, from its second step on, without evaluations; what
its start and its first step take of the CPU is told apart.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlm.bench_peers import OURS, PEERS, Learner
from mlm.bench_process import Channel, Child, Failed, clock
from mlm.errors import InputError
from mlm.runs import RunFolder

if TYPE_CHECKING:
    from mlm.objectives import Batch

LEVELS = (4.4, 4.2)
"""Nats."""
BOUND = 30
"""A peer is given so many times our seconds to the lowest level."""
TUNED_BOUND = 15
"""The same for Hugging Face's model under tuned rates, whose decay then ends with it."""
TUNED_RATES = (3e-4, 1e-3, 3e-3)
WARMUP_SHARE = 0.03
GROWTH = 1.05  # an evaluation whenever so many times the seconds of the last one are spent

Say = Callable[[str], None]


class Clock:
    """Called after every step; evaluates now and then, off the clock, and ends the training when it may."""

    def __init__(self, channel: Channel, frozen: "list[Batch]", limit: float | None, lowest: float) -> None:
        self.channel, self.frozen = channel, frozen
        self.limit, self.lowest = limit, lowest
        self.spent, self.tokens, self.due = 0.0, 0, 0.0
        self.resumed: float | None = None
        self.learner: Learner | None = None

    def __call__(self, learner: Learner) -> None:
        """After a step."""
        self.learner = learner
        self.tokens += learner.tokens
        if self.resumed is None:  # the first step makes what is made lazily
            self.channel.say({"started": time.process_time()})
        else:
            self.spent += clock() - self.resumed
        if self.spent >= self.due:
            loss = self.evaluate()
            self.due = max(self.spent * GROWTH, self.spent + 0.2)
            if loss <= self.lowest or (self.limit is not None and self.spent >= self.limit):
                self.channel.say({"ended": self.spent})
                raise SystemExit(0)
        self.resumed = clock()

    def evaluate(self) -> float:
        """Mean held-out loss in nats, told to the parent."""
        assert self.learner is not None
        loss = held_out(self.learner.logits, self.frozen)
        self.channel.say({"seconds": self.spent, "tokens": self.tokens, "loss_nats": loss})
        return loss


def held_out(logits: Callable[[Any], Any], frozen: "list[Batch]") -> float:
    """Mean loss in nats over the targets of frozen batches.

    Args:
        logits: [rows, length] tokens -> [rows, length, n_tokens].
    """
    import torch

    from mlm.objectives import cross_entropies

    losses = []
    with torch.no_grad():
        for batch in frozen:
            found = logits(batch.inputs)
            chosen = found.gather(1, batch.at[:, :, None].expand(-1, -1, found.shape[-1]))
            losses.append(cross_entropies(chosen, batch.targets)[batch.real].double())
    return float(torch.cat(losses).mean())


def train(
    channel: Channel, run: str, contestant: str, limit: float | None, lowest: float, options: dict[str, Any]
) -> None:
    """A contestant to the lowest level, to its limit in seconds, or to its own end."""
    import torch

    from mlm import shards
    from mlm.evaluate import freeze

    folder = RunFolder.open(Path(run))
    device = torch.device(folder.numerics.device)
    data = shards.read(folder.shards, folder.vocabulary)["validation"]
    begins_word = torch.tensor(folder.tokenizer().begins_word)
    frozen = freeze(folder.config, data, begins_word, folder.config.curve.sequences)["yardstick"]
    watch = Clock(channel, [batch.to(device) for batch in frozen], limit, lowest)
    PEERS[contestant].load()(folder, watch, **options)
    watch.evaluate()
    channel.say({"ended": watch.spent})


def arrival(curve: Sequence[Sequence[float]], level: float) -> float | None:
    """Seconds at which a curve of (seconds, tokens, loss) first reaches a level, between two points.

    >>> arrival([(0, 0, 8.0), (10, 100, 5.0), (20, 200, 4.0)], 4.5)
    15.0
    >>> arrival([(0, 0, 8.0)], 4.5) is None
    True
    """
    before: Sequence[float] | None = None
    for point in curve:
        if point[2] <= level:
            if before is None:
                return float(point[0])
            share = (before[2] - level) / (before[2] - point[2])
            return float(before[0] + share * (point[0] - before[0]))
        before = point
    return None


def _curve(
    name: str,
    log: Path,
    run: Path,
    contestant: str,
    limit: float | None,
    lowest: float,
    say: Say,
    **options: Any,
) -> tuple[float, list[list[float]]]:
    """Seconds of CPU to the end of a contestant's first step; its (seconds, tokens, nats) from there."""
    curve: list[list[float]] = []
    told = time.monotonic()
    arguments: dict[str, Any] = {
        "run": str(run),
        "contestant": contestant,
        "limit": limit,
        "lowest": lowest,
        "options": options,
    }
    with Child("mlm.bench_quality:train", log, **arguments) as child:
        started = float(child.hear()["started"])
        for line in child.warnings():
            say(f"  {name}: {line}")
        while "ended" not in (said := child.hear()):
            curve.append([round(said["seconds"], 3), said["tokens"], round(said["loss_nats"], 4)])
            if time.monotonic() - told > 15:
                told = time.monotonic()
                bound = f" of at most {limit:.0f}" if limit else ""
                say(f"  {name}: {said['seconds']:.0f} s{bound}, {said['loss_nats']:.2f} nats")
    return started, curve


def measure(
    runs: list[Path], logs: Path, say: Say, levels: Sequence[float] = LEVELS
) -> Iterator[dict[str, Any]]:
    """Curves and seconds to each level, ours as the median over seeds; once more after each peer.

    Args:
        runs: our run, once for each seed; peers train the first.
        say: called with lines for a person.
    """
    lowest = min(levels)
    mine, starts = [], []
    for number, run in enumerate(runs):
        say(f"{OURS}, seed {number}: to the end of its budget")
        log = logs / f"quality-{OURS}-{number}.log"
        try:
            started, curve = _curve(OURS, log, run, OURS, None, 0.0, say, once=True)
        except Failed as error:
            remedy = "peers are given multiples of its seconds; see to what that says, and start again"
            raise InputError(f"{OURS}, seed {number}: failed: {error}; {remedy}") from None
        mine.append(curve)
        starts.append(started)
    arrivals = [arrival(curve, lowest) for curve in mine]
    reached = [found for found in arrivals if found is not None]
    # A level that not every seed reaches bounds nobody: the whole of our training does then.
    reference = statistics.median(reached if len(reached) == len(mine) else [curve[-1][0] for curve in mine])
    said: dict[str, Any] = {"title": PEERS[OURS].title, "curves": mine, "bound_seconds": None}
    found = {OURS: _arrived(said | {"start_seconds": statistics.median(starts)}, levels)}

    def so_far() -> dict[str, Any]:
        return {"levels": list(levels), "reference_seconds": reference, "contestants": dict(found)}

    yield so_far()
    for name, contestant, title, limit, options in _plan(runs[0], logs, reference, say):
        try:
            say(f"{name}: at most {limit:.0f} s of CPU")
            log = logs / f"quality-{name}.log"
            started, curve = _curve(name, log, runs[0], contestant, limit, lowest, say, **options)
        except Failed as error:
            say(f"{name}: failed: {error}")
            continue
        said = {"title": title, "curves": [curve], "bound_seconds": limit, "start_seconds": started}
        found[name] = _arrived(said, levels, found[OURS]["seconds"])
        yield so_far()


def _arrived(
    said: dict[str, Any], levels: Sequence[float], ours: dict[str, float | None] | None = None
) -> dict[str, Any]:
    """What is said of a contestant, with its seconds to each level, also in times of ours."""
    seconds = {f"{level:g}": _median(said["curves"], level) for level in levels}
    times = {
        level: spent / mine if spent and (mine := (ours or seconds)[level]) else None
        for level, spent in seconds.items()
    }
    return said | {"seconds": seconds, "times_ours": times}


def _median(curves: list[list[list[float]]], level: float) -> float | None:
    seconds = [arrival(curve, level) for curve in curves]
    there = [one for one in seconds if one is not None]
    return statistics.median(there) if len(there) == len(seconds) else None


def _plan(
    run: Path, logs: Path, reference: float, say: Say
) -> list[tuple[str, str, str, float, dict[str, Any]]]:
    """(name, contestant, title, limit in seconds, options) of every peer that is installed.

    Hugging Face's model under tuned rates computes in the type that our run does: bfloat16, where a machine
    only imitates it, takes many times as long.
    """
    bound, tuned = BOUND * reference, TUNED_BOUND * reference
    planned: list[tuple[str, str, str, float, dict[str, Any]]] = [
        ("labml-nn", "labml-nn", "labml-nn with its own recipe (Noam)", bound, {}),
        ("hf-defaults", "hf-trainer", "BertForMaskedLM as run_mlm trains it: 5e-5, linear, batches of 8, "
         "3 epochs", bound, {"num_train_epochs": 3.0}),
    ]  # fmt: skip
    for name in ("labml-nn", "hf-trainer", "hf-bf16"):
        if PEERS[name].missing:
            say(absent(name))
    planned = [one for one in planned if not PEERS[one[1]].missing]
    if PEERS["hf-bf16"].missing:
        return planned
    opened = RunFolder.open(run)
    asked: dict[str, Any] = {"run": str(run), "contestant": "hf-bf16", "dtype": opened.numerics.dtype}
    try:
        with Child("mlm.bench_process:train", logs / "quality-speed.log", **asked) as hf:
            attention = hf.hear()["attention"]
            turn = hf.ask(seconds=min(5.0, reference))
    except Failed as error:
        say(f"hf-tuned: failed: {error}")
        return planned
    steps = max(2, round(tuned * turn["tokens"] / turn["seconds"] / opened.config.tokens_per_step))
    for rate in TUNED_RATES:
        warmup = round(WARMUP_SHARE * steps)
        options = {"learning_rate": rate, "warmup": warmup, "steps": steps, "attention": attention}
        options["dtype"] = asked["dtype"]
        title = (
            f"BertForMaskedLM in {asked['dtype']}, {attention} attention, {rate:g}, warm-up and linear decay"
        )
        planned.append((f"hf-tuned-{rate:g}", "hf-bf16", title, tuned, options))
    return planned


def absent(name: str) -> str:
    """What is said of a peer that is not installed."""
    packages = ", ".join(PEERS[name].missing)
    return f"{name}: left out; {packages} not installed (`make bench-setup` installs the peers)"
