"""What the commands do to one run: plan it, train it."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from mlm import (
    checkpoint,
    compiled,
    corpus,
    distributed,
    hugging_face_tokenizer,
    layout,
    leases,
    logs,
    machine,
    measuring,
    planner,
    registration,
    shards,
    status,
    study,
    vocabulary,
    yaml_file,
)
from mlm.errors import InputError
from mlm.files import clear_partial, is_locked, locked, write_atomically, write_json
from mlm.progress import Progress
from mlm.runs import RunFolder
from mlm.tracking import Tracker

if TYPE_CHECKING:
    from mlm.train import Trainer


def plan(experiment: str, arm: str, seed: int, scale: str, changes: list[str]) -> Path:
    """Resolve one run of an experiment, prepare its data, and write its config.json."""
    planned = planner.load_study(scale, [experiment], overrides(changes))
    wanted = arm or planned.experiments[experiment].baseline
    if wanted not in planned.experiments[experiment].arms:
        known = ", ".join(planned.experiments[experiment].arms)
        raise InputError(f"--arm: experiment {experiment} has no arm {wanted!r}; there are: {known}")
    cells = [c for c in planned.cells if c.experiment == experiment]
    cell = next((c for c in cells if c.arm == wanted and c.seed == seed), None)
    if cell is None:
        seeds = sorted({c.seed for c in cells})
        raise InputError(
            f"--seed: experiment {experiment} at scale {scale} has no seed {seed}; there are: {seeds}"
        )
    run = planned.runs[cell.digest]
    data = run.data
    if not (data.corpus / "corpus.json").exists():
        corpus.prepare(data.corpus_file, data.corpus)
    if not data.vocabulary.exists():
        if run.config.tokenizer:
            hugging_face_tokenizer.prepare(run.config.tokenizer, data.vocabulary)
        else:
            vocabulary.prepare(run.config.vocabulary, data.corpus, data.vocabulary, str(data.corpus_file))
    if not (data.shards / "shards.json").exists():
        shards.write(data.corpus, data.vocabulary, data.shards, machine.cores())
    study.write_run(run)
    if not changes:
        label = (scale, experiment, wanted, seed)
        others = [one for one in RunFolder.open(run.folder).labels if one[0] == scale and one != label]
        study.write_labels(run.folder, [list(one) for one in (*others, label)], scale)
    return run.folder


def overrides(changes: list[str]) -> dict[str, Any]:
    """['masking.rate=.3'] -> {'masking': {'rate': 0.3}}; values are YAML."""
    result: dict[str, Any] = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not key or not equals:
            raise InputError(f"--set {change}: expected KEY=VALUE, for instance masking.rate=.3")
        nested: Any = yaml_file.parse(value, f"--set {key}")
        for part in reversed(key.split(".")):
            nested = {part: nested}
        result = yaml_file.merge(result, nested)
    return result


def train(
    run: RunFolder,
    checkpoint_seconds: float,
    offline_later: bool = False,
    then_measure: Sequence[measuring.Wanted] = (),
) -> int:
    """Train a run; returns the exit status: 0, or 128 + signal where one stopped it.

    A call for a run that has ended, or died between its last steps, does what is left to do. Of several
    processes that train a run together the first does all but the computing.

    Args:
        then_measure: taken by this process if it trains the run to its end, as the only one that trains it.
    """
    distributed.check(run.numerics, str(run.path))
    if run.numerics.processes > 1:  # each process needs its device before they can talk
        leases.take(run.numerics, run.numerics.processes)
    with distributed.joined(run.numerics) as group:
        if group.first:
            return _lead(run, checkpoint_seconds, Tracker(run, offline_later), group, then_measure)
        begun = group.any(False)
        return _train(run, checkpoint_seconds, Console(quiet=True), None, group) if begun else 0


def _lead(
    run: RunFolder,
    checkpoint_seconds: float,
    tracker: Tracker,
    group: distributed.Group,
    then_measure: Sequence[measuring.Wanted],
) -> int:
    if is_locked(run.path / "lock"):
        print(f"{run.name}: another process is training this run; waiting for it", file=sys.stderr)
    with locked(run.path / "lock"):
        ahead = group.any(not (run.path / "run.json").exists())
        if ahead:
            for scale, experiment in _first_labels(run).items():
                registration.begin(scale, experiment, run.path.name)
            stopped = _train(run, checkpoint_seconds, _console(), tracker, group)
            if stopped:
                return stopped
        outcome = run.outcome()
        flag = run.path / "trained"
        if not flag.exists():
            checkpoint.clear(run.path / "checkpoints")
            clear_partial(run.path)
            if problem := tracker.end():
                print(f"warning: {run.name}: {problem}", file=sys.stderr)
            # The one file that Snakemake knows of: where it deletes it, nothing is trained again.
            write_atomically(flag, outcome["files"]["weights.safetensors"] + "\n")
        told = "diverged" if outcome["status"] == "diverged" else f"{outcome['tokens'] / 1e6:.2f} M tokens"
        took = outcome["wall_seconds"]
        print(f"{run.name}: {told} in {status.duration(took)}{_study_progress(run, took)}", flush=True)
        if ahead and group.size == 1:  # and no more than that by a start after one that was killed here
            measuring.with_training(run, then_measure)
    return 0


def _first_labels(run: RunFolder) -> dict[str, str]:
    """Scale -> the experiment that a run is called after; one that merely shares it does not begin with it."""
    return {scale: experiment for scale, experiment, _, _ in reversed(run.labels)}


def _check_targets(run: RunFolder, trained: dict[str, Any]) -> None:
    """Refuse a run that has predicted nothing, which a strategy of the user's may come to."""
    asked = run.config.predicts_tokens and ":" not in run.config.objective
    if asked and trained["status"] == "finished" and not trained["realised"]["predicted"]:
        strategy = run.config.masking.strategy
        raise InputError(
            f"{run.name}: masking{'.strategy: ' + strategy if strategy else ''}: not one of "
            f"{trained['tokens']} tokens was predicted, so nothing was learnt; see to it that some are"
        )


def _train(
    run: RunFolder,
    checkpoint_seconds: float,
    console: Console,
    tracker: Tracker | None,
    group: distributed.Group,
) -> int:
    begun = time.monotonic()
    code = run.check_code()
    leases.take(run.numerics, run.numerics.processes)
    device, _ = run.compute()
    import torch

    from mlm import fill, outcome
    from mlm.train import Interrupted, Options
    from mlm.train import train as to_the_end

    tokenizer = run.tokenizer()
    prompts = corpus.load(run.corpus_file).prompts
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "one CPU thread"
    where = f"{group.size} × {where}" if group.size > 1 else where
    console.print(f"{run.name} ({run.path.name}) on {where} in {run.numerics.dtype}, torch {torch.__version__}")
    trainer = trainer_of(run, group)
    progress = _Progress(console, run.config.budget_tokens)

    def report(record: dict[str, Any]) -> None:
        progress.show(record)
        if tracker is not None:
            tracker.begin()

    with _signals(group.size == 1) as stopped_by:
        options = Options(
            checkpoint_seconds=checkpoint_seconds,
            report=report,
            stop=lambda: bool(stopped_by),
            fills=lambda encoder: fill.fill_prompts(encoder, tokenizer, prompts),
        )
        try:
            trained = to_the_end(run.path, trainer, options)
        except Interrupted as told:
            console.print(f"stopped: {told}; the same command goes on")
            return 128 + (stopped_by or [signal.SIGTERM])[0]  # another process of the run was told
    _check_targets(run, trained)
    if group.first:
        outcome.write(run, trained, time.monotonic() - begun, where, code)
    if trained["diverged"]:
        at = trained["diverged"]
        console.print(
            f"diverged: loss or gradient not finite at step {at['step']}, rate {at['learning_rate']:g}"
        )
    return 0


def trainer_of(run: RunFolder, group: distributed.Group | None = None) -> "Trainer":
    """Data, encoder and optimizer of a run before its first step, in the run's numerics.

    Args:
        group: the processes that train it; without, this is the first of them and talks to none.
    """
    group = group or distributed.Group(size=run.numerics.processes)
    if run.numerics.path == "compiled":
        compiled.keep_in(compiled.CACHE, compiled.made_by())
    encoder = run.encoder(trained=False).train()
    from mlm.train import Trainer

    data, begins_word = shards.read(run.shards, run.vocabulary), run.tokenizer().begins_word
    return Trainer(run.config, data, begins_word, encoder, run.numerics.path, group)


def compile_steps(run: RunFolder, flag: Path) -> None:
    """Compile what the steps of a run need, unless it is there; runs of its shape then begin at once."""
    run.check_code()
    leases.take(run.numerics)
    begun = time.monotonic()
    trainer = trainer_of(run)
    steps = compiled.shapes(run.config)
    progress = Progress("compiling", len(steps), "shapes")
    for step in steps:
        trainer.step(step)
        progress.add(1)
    write_json(
        flag, {"run": run.path.name, "shapes": len(steps), "seconds": round(time.monotonic() - begun, 1)}
    )


def _console() -> Console:
    """Where the lines of a training go: to its log, where it keeps one, and not to the terminal too."""
    if (log := logs.detail()) is None:
        return Console(highlight=False, soft_wrap=True)
    # Colour is kept: `less -R` and most viewers show it.
    return Console(file=log, force_terminal=True, width=120, highlight=False, soft_wrap=True)


@contextlib.contextmanager
def _signals(alone: bool) -> Iterator[list[int]]:
    """SIGTERM and Ctrl-C ask for a checkpoint and an end; a second one ends at once.

    Args:
        alone: whether no other process trains the run. Else torchrun passes on what each was told already,
            and itself ends those that take too long.
    """
    received: list[int] = []

    def note(number: int, _frame: object) -> None:
        if received and alone:
            os._exit(128 + number)
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Progress:
    """A line a record: step, loss, tokens a second, time left; filled prompts in colour."""

    def __init__(self, console: Console, budget_tokens: int) -> None:
        self.console, self.budget = console, budget_tokens

    def show(self, record: dict[str, Any]) -> None:
        from mlm.colour import coloured

        event = record["event"]
        if event == "warning":
            self.console.print(f"[yellow]warning[/]: {record['message']}")
        elif event == "fills":
            for prompt in record["prompts"]:
                self.console.print(coloured(prompt))
        elif event == "evaluation" and record["yardstick"]:
            loss, accuracy = record["yardstick"]["loss_nats"], record["yardstick"]["accuracy"]
            self.console.print(f"{self._place(record)}  held out {loss:.3f} nats, {100 * accuracy:.1f} % right")
        elif event == "train":
            speed = record["tokens"] / max(record["train_seconds"], 1e-9)
            left = status.duration((self.budget - record["tokens"]) / speed)
            loss = f"training {record['loss_nats']:.3f} nats"
            self.console.print(f"{self._place(record)}  {loss}  {speed:,.0f} tokens/s  {left} left")

    def _place(self, record: dict[str, Any]) -> str:
        return f"{100 * record['tokens'] / self.budget:5.1f} %  step {record['step']:>6}"


def _study_progress(run: RunFolder, seconds: float) -> str:
    """How far the run's experiment has come, and how long it takes on if the others are like this one."""
    for scale, experiment, *_ in run.labels[:1]:
        if layout.study_file(scale).exists():
            known = status.ended(scale, experiment)
            left = known.seconds_left(seconds)
            return f"; {known} of {experiment}" + (f", about {status.duration(left)} left" if left else "")
    return ""
