"""One run -> weights and metrics: the readable loop.

From the shard on disk to the loss there are four hops: `text(step)` -> `corrupt(tokens, …)` ->
`objectives.batch(…)` -> `objective.sums(encoder, batch)`. A step number, three flat buffers and a
few counters are the whole state, so a run killed at any moment resumes to the same bits.
"""

import itertools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mlm import (
    checkpoint,
    compiled,
    config,
    distributed,
    evaluate,
    flops,
    measures,
    objectives,
    schedules,
    sentence_pairs,
    shards,
)
from mlm.batches import Batches
from mlm.encoder import Encoder
from mlm.errors import InputError
from mlm.layout import kept_weights
from mlm.masking import strategy
from mlm.metrics import MetricsLog
from mlm.objectives import Batch
from mlm.optimizer import AdamW
from mlm.randomness import Purpose, Uniform, generator, uniform, uniform_on
from mlm.sentence_pairs import PairBatch, PairBatches

COUNTED = ("eligible", *measures.KINDS, "predicted")


class Step(NamedTuple):
    """What one update leaves to be told."""

    losses: dict[str, Tensor]
    """Sum in nats over the items of each of the objective's terms."""
    items: dict[str, Tensor]
    norm: Tensor
    """The gradient's, before clipping."""
    counts: Tensor
    """As in COUNTED."""


class Interrupted(Exception):
    """The run was asked to stop, saved its state and can be resumed."""


class Options(NamedTuple):
    """What a caller may choose without touching a bit of the result."""

    checkpoint_seconds: float
    report: Callable[[dict[str, Any]], None]
    """Called with every record that goes to metrics.jsonl."""
    stop: Callable[[], bool]
    """Asked at every record whether to save and leave."""
    fills: Callable[[Encoder], list[dict[str, Any]]]
    """Fills the fixed prompts; must draw no randomness."""


class Trainer:
    """Data, encoder and optimizer of one run.

    Args:
        run: the run's configuration.
        data: verified shards by split.
        begins_word: of each token of the vocabulary, whether a word begins with it.
        encoder: as it is before the first step, on the device where it is to be trained.
        path: how steps are computed, as the run's numerics say.
        group: the processes that share each batch; all of them hold the same weights.
    """

    def __init__(
        self,
        run: config.Run,
        data: dict[str, shards.Shard],
        begins_word: list[bool],
        encoder: Encoder,
        path: str = "eager",
        group: distributed.Group = distributed.ALONE,
    ) -> None:
        self.group = group
        self.parts = -(-run.batch_size // ((run.micro_batch or run.batch_size) * group.size))
        """Micro-batches that this process's rows of a batch are cut into; twice as many where memory ends."""
        self.notes: list[str] = []
        """What the steps since the last record have to tell."""
        self.run, self.n_tokens, self.encoder = run, len(begins_word), encoder
        self.device = encoder.embedding.device
        self.begins_word = torch.tensor(begins_word)
        if run.relation is not None:
            for split in data.values():  # also what is only measured at the end
                sentence_pairs.check(split, run.sequence_length, run.relation)
        self.text = _text(run, data["train"])
        self.corrupt = strategy(run.masking)
        self.objective = objectives.objective(run)
        compiles = path == "compiled" and compiled.covers(run)
        self.sums = compiled.sums(self.objective) if compiles else self.objective.sums
        self.optimizer = AdamW(encoder, run.optimizer)
        self.frozen = evaluate.freeze(run, data["validation"], self.begins_word, run.curve.sequences)

    def step(self, number: int) -> Step:
        """Update number + 1 of the run."""
        run, share = self.run, schedules.progress(number, self.run.steps)
        tokens, pairs = self.text(number)
        draws = uniform(generator(run.seed, Purpose.MASKING, number))
        corrupted = self.corrupt(
            tokens,
            schedules.masking(run.masking, share),
            draws,
            n_tokens=self.n_tokens,
            begins_word=self.begins_word,
            step=number,
        )
        batch = objectives.batch(tokens, corrupted, run.causal, pairs)

        self.encoder.pattern = schedules.pattern(run, share)
        items = self.objective.counts(batch)
        losses = self._gradients(number, batch.to(self.device), items)

        norm = self.optimizer.step(number + 1, _rate(run, number))
        kinds = torch.bincount(corrupted.kind.flatten(), minlength=4)[1:]
        eligible, predicted = (tokens >= config.N_SPECIAL).sum(), batch.real.sum()
        return Step(losses, items, norm, torch.cat([eligible[None], kinds, predicted[None]]))

    def _gradients(self, number: int, batch: Batch, items: dict[str, Tensor]) -> dict[str, Tensor]:
        """Sums of losses over this process's rows; the gradient of the whole batch's mean is gathered.

        Where a device's memory does not hold a micro-batch, the step is computed again in halves: the same
        batch, masks and loss but for rounding.
        """
        first, last = self.group.rows(len(batch.inputs))
        while True:
            try:
                summed, lacking = self._in_parts(number, batch, items, first, last), None
            except torch.OutOfMemoryError as error:
                summed, lacking = {}, str(error).partition("\n")[0]
            # All processes are asked before gradients are summed: one that fell out would stop the others.
            # They are asked by way of the CPU, so that no step waits for its GPU.
            if not self.group.any(lacking is not None):
                break
            at_once = (last - first) // self.parts
            if at_once <= 1:
                raise InputError(
                    f"micro_batch: a single sequence does not fit the device's memory "
                    f"({lacking or 'of another process'}); give shorter sequences or a smaller encoder"
                )
            self.parts *= 2
            self.optimizer.gradients.zero_()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            self.notes.append(
                f"step {number + 1}: out of memory with {at_once} sequences at once; going on with the same "
                f"batch and masks, {max(1, (last - first) // self.parts)} at once (`micro_batch` states it)"
            )
        self.group.sum_(self.optimizer.gradients)
        return summed

    def _in_parts(
        self, number: int, batch: Batch, items: dict[str, Tensor], first: int, last: int
    ) -> dict[str, Tensor]:
        rows = len(batch.inputs)
        bounds = range(first, last, max(1, (last - first) // self.parts))
        summed: dict[str, Tensor] = {}
        for begin, end in itertools.pairwise((*bounds, last)):
            dropout = self._dropout(number, rows, begin, end)
            sums = self.sums(self.encoder, batch.rows(begin, end), dropout)
            if sums.keys() != items.keys():
                raise InputError(
                    f"objective: {self.run.objective}: `sums` has the terms {', '.join(sums)}, and `counts` "
                    f"{', '.join(items)}; give both the same"
                )
            objectives.mean_loss(sums, items).backward()  # type: ignore[no-untyped-call]
            for term in items:  # in the order of `counts`, in which all that is told is laid out
                loss = sums[term].detach()
                summed[term] = summed[term] + loss if term in summed else loss
        return summed

    def _dropout(self, number: int, rows: int, begin: int, end: int) -> Uniform | None:
        """Dropout's draws for some rows of a batch: those that they have in the whole batch."""
        if not self.run.encoder.dropout:
            return None
        whole = uniform_on(self.device, self.run.seed, Purpose.DROPOUT, number)
        return lambda shape: whole((rows, *shape[1:]))[begin:end]

    def validate(self) -> dict[str, Any]:
        """Held-out loss and accuracy under the yardstick and under the run's own corruption."""
        self.encoder.pattern = schedules.pattern(self.run, 1.0)  # every run is judged as it ends
        return {name: evaluate.measure(self.encoder, batches) for name, batches in self.frozen.items()}


def _text(run: config.Run, data: shards.Shard) -> Callable[[int], tuple[Tensor, PairBatch | None]]:
    """Step number -> [rows, length] tokens, and the sentence pairs they are, if they are."""
    if run.relation is not None:
        paired = PairBatches(data, run.seed, run.batch_size, run.sequence_length, run.relation)
        return lambda step: ((pairs := paired(step)).tokens, pairs)
    # One order of the text for every schedule of lengths: shorter sequences are cut from the same windows.
    window = run.stretch or run.sequence_length
    plain = Batches(data.tokens, run.seed, run.tokens_per_step // window, window)
    return lambda step: (plain(step).view(-1, schedules.length(run, step)), None)


def train(folder: Path, trainer: Trainer, options: Options) -> dict[str, Any]:
    """Train to the end of the budget, from the newest checkpoint in `folder` if there is one.

    Writes metrics.jsonl and weights.safetensors; checkpoints are kept in `folder`/checkpoints.

    Returns:
        What run.json says of the training: status, steps, tokens, FLOPs, realised counts, seconds.

    Raises:
        Interrupted: `options.stop` said so; the state is saved.
    """
    run, keep = trainer.run, folder / "checkpoints"
    state, warnings = checkpoint.latest(keep)
    counters = dict.fromkeys((*COUNTED, "seconds"), 0.0)
    first = 0
    if state is not None:
        first, counters = state.step, state.counters
        trainer.optimizer.load(state.tensors)
        trainer.parts = int(counters["parts"])  # how a batch is cut decides how its sums are rounded
    group = trainer.group
    log = MetricsLog(folder / "metrics.jsonl", after=first) if group.first else None
    spent, kept = flops.by_step(run, trainer.n_tokens), set(run.kept_steps)
    log_every = max(1, run.log_every_tokens // run.tokens_per_step)

    def record(event: str, done: int, content: dict[str, Any]) -> None:
        place = {"event": event, "step": done, "tokens": done * run.tokens_per_step, "flops": spent[done]}
        entry = {**place, **content, "train_seconds": round(counters["seconds"], 3)}
        if log is not None:
            log.append(entry)
            options.report(entry)

    def validate(done: int) -> bool:
        result = trainer.validate()  # in every process: their weights are the same
        finite = all(math.isfinite(value) for _, value in measures.flatten("", result))
        if group.any(not finite, trainer.device):
            return False
        record("evaluation", done, result)
        if group.first:
            record("fills", done, {"prompts": options.fills(trainer.encoder)})
        return True

    for warning in warnings:
        record("warning", first, {"message": warning})
    if first == 0:
        validate(0)
    gathered: list[Step] = []
    diverged = None
    saved, begun = time.monotonic(), time.perf_counter()
    for number in range(first, run.steps):
        gathered.append(trainer.step(number))
        done = number + 1
        last = done == run.steps
        if done in kept and group.first:
            counters["seconds"] += _now(trainer.device) - begun
            checkpoint.save_weights(kept_weights(folder, done), trainer.encoder, {"run": folder.name})
            begun = time.perf_counter()
        if done % log_every and done % run.curve_steps and not last:
            continue
        told = _gather(gathered, group)
        losses, norms, counts = told.losses, told.norms, told.counts
        counters["seconds"] += time.perf_counter() - begun
        gathered = []
        diverged = _first_not_finite(losses, norms, done)
        counted = counts if diverged is None else counts[: len(counts) - (done - diverged)]
        for name, count in zip(COUNTED, counted.sum(0).tolist(), strict=True):
            counters[name] += count
        if diverged is not None:
            break
        record("train", done, _training_record(run, number, told))
        for note in trainer.notes:
            record("warning", done, {"message": note})
        trainer.notes.clear()
        if (done % run.curve_steps == 0 or last) and not validate(done):
            diverged = done
            break
        stop = group.any(options.stop(), trainer.device)
        if log is not None and (stop or time.monotonic() - saved >= options.checkpoint_seconds):
            log.sync()
            counters["parts"] = trainer.parts
            checkpoint.save(keep, checkpoint.State(done, trainer.optimizer.state(), counters))
            saved = time.monotonic()
        if stop:
            if log is not None:
                log.close()
            raise Interrupted(f"saved at step {done} of {run.steps}")
        begun = time.perf_counter()
    if log is not None:
        log.close()
        checkpoint.save_weights(folder / "weights.safetensors", trainer.encoder, {"run": folder.name})
    ended = run.steps if diverged is None else diverged
    rate = _rate(run, ended - 1)
    return {
        "status": "finished" if diverged is None else "diverged",
        "steps": ended,
        "tokens": ended * run.tokens_per_step,
        "flops": spent[ended],
        "realised": {
            "eligible": int(counters["eligible"]),
            "selected": int(sum(counters[kind] for kind in measures.KINDS)),
            **{name: int(counters[name]) for name in COUNTED[1:]},
        },
        "diverged": None if diverged is None else {"step": diverged, "learning_rate": rate},
        "training_seconds": round(counters["seconds"], 3),
    }


def _now(device: torch.device) -> float:
    """The clock when a GPU has done the steps that it was given; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _rate(run: config.Run, number: int) -> float:
    begin = number * run.tokens_per_step
    return schedules.learning_rate(run.optimizer, run.budget_tokens, begin, begin + run.tokens_per_step)


class _Interval(NamedTuple):
    """Some steps' told values, in float64 on the CPU."""

    losses: Tensor
    """[steps, terms] sums in nats."""
    items: Tensor
    """[steps, terms]"""
    norms: Tensor
    counts: Tensor
    terms: list[str]


def _gather(steps: list[Step], group: distributed.Group) -> _Interval:
    def table(rows: list[dict[str, Tensor]]) -> Tensor:
        return torch.stack([torch.stack(list(row.values())) for row in rows]).double()

    losses = table([step.losses for step in steps])
    group.sum_(losses)
    norms, counts = (
        torch.stack(column).double().cpu() for column in ([s.norm for s in steps], [s.counts for s in steps])
    )
    return _Interval(
        losses.cpu(),
        table([s.items for s in steps]).cpu(),
        norms,
        counts,
        list(steps[0].items),
    )


def _training_record(run: config.Run, number: int, told: _Interval) -> dict[str, Any]:
    counts = told.counts.sum(0).tolist()
    # Weighted by items: the mean over the interval's targets, not over its steps.
    means = told.losses.sum(0) / told.items.sum(0).clamp(min=1)
    apart = dict(zip(told.terms, means.tolist(), strict=True)) if len(told.terms) > 1 else {}
    return {
        "loss_nats": float(means.sum()),
        **{f"{term}_loss_nats": value for term, value in apart.items()},
        "learning_rate": _rate(run, number),
        "gradient_norm": float(told.norms.mean()),
        "targets": {name: int(n) for name, n in zip(COUNTED[1:], counts[1:], strict=True)},
    }


def _first_not_finite(losses: Tensor, norms: Tensor, done: int) -> int | None:
    """The step, counted from 1, at which a loss or gradient stopped being a number."""
    fine = (losses.isfinite().all(1) & norms.isfinite()).tolist()
    return done - len(fine) + fine.index(False) + 1 if False in fine else None
