"""One run -> weights and metrics: the readable loop.

From the shard on disk to the loss there are four hops: `batches(step)` -> `corrupt(tokens, …)` ->
`encoder(inputs, at)` -> `masked_lm_loss(logits, targets)`. A step number, three flat buffers and a
few counters are the whole state, so a run killed at any moment resumes to the same bits.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mlm import checkpoint, config, evaluate, measures, schedules, shards
from mlm.batches import Batches
from mlm.encoder import Encoder, training_flops
from mlm.masking import corrupt
from mlm.metrics import MetricsLog
from mlm.objectives import masked_lm_loss, target_positions
from mlm.optimizer import AdamW
from mlm.randomness import Purpose, generator, uniform, uniform_on

KINDS = ("mask", "same", "random")
COUNTED = ("eligible", *KINDS, "predicted")


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
        device, dtype: where and in what type to compute; from the run's numerics.
    """

    def __init__(
        self,
        run: config.Run,
        data: dict[str, shards.Shard],
        begins_word: list[bool],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.run, self.n_tokens, self.device = run, len(begins_word), device
        self.begins_word = torch.tensor(begins_word)
        self.batches = Batches(data["train"].tokens, run.seed, run.batch_size, run.sequence_length)
        self.encoder = Encoder(run.encoder, self.n_tokens, run.seed, dtype).to(device)
        self.optimizer = AdamW(self.encoder, run.optimizer)
        self.frozen = {
            name: evaluate.freeze(
                data["validation"].tokens, masking, run.sequence_length, self.begins_word, run.curve.sequences
            )
            for name, masking in evaluate.corruptions(run).items()
        }

    def step(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Update number + 1 of the run; returns loss in nats, gradient norm, counts as in COUNTED."""
        run = self.run
        tokens = self.batches(number)
        draws = uniform(generator(run.seed, Purpose.MASKING, number))
        masking = schedules.masking(run.masking, schedules.progress(number, run.steps))
        corrupted = corrupt(tokens, masking, draws, n_tokens=self.n_tokens, begins_word=self.begins_word)
        at, real = target_positions(corrupted.predicted)
        inputs, at, targets, real = map(self._move, (corrupted.inputs, at, tokens.gather(1, at), real))
        dropout = uniform_on(self.device, run.seed, Purpose.DROPOUT, number) if run.encoder.dropout else None

        logits = self.encoder(inputs, at=at, uniform=dropout)
        loss = masked_lm_loss(logits, targets, real)
        loss.backward()  # type: ignore[no-untyped-call]

        begin = number * run.tokens_per_step
        rate = schedules.learning_rate(run.optimizer, run.budget_tokens, begin, begin + run.tokens_per_step)
        norm = self.optimizer.step(number + 1, rate)
        kinds = torch.bincount(corrupted.kind.flatten(), minlength=4)[1:]
        eligible = (tokens >= config.N_SPECIAL).sum()
        predicted = corrupted.predicted.sum()
        return loss.detach(), norm, torch.cat([eligible[None], kinds, predicted[None]])

    def validate(self) -> dict[str, Any]:
        """Held-out loss and accuracy under the yardstick and under the run's own corruption."""
        return {
            name: evaluate.measure(self.encoder, batches, self.device) for name, batches in self.frozen.items()
        }

    def _move(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)


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
    log = MetricsLog(folder / "metrics.jsonl", after=first)
    for warning in warnings:
        options.report({"event": "warning", "message": warning})
    flops = training_flops(run.encoder, trainer.n_tokens, run.sequence_length) * run.tokens_per_step
    log_every = max(1, run.log_every_tokens // run.tokens_per_step)
    curve_every = max(1, run.curve.every_tokens // run.tokens_per_step)

    def record(event: str, done: int, content: dict[str, Any]) -> None:
        place = {"event": event, "step": done, "tokens": done * run.tokens_per_step, "flops": done * flops}
        entry = {**place, **content, "train_seconds": round(counters["seconds"], 3)}
        log.append(entry)
        options.report(entry)

    def validate(done: int) -> bool:
        result = trainer.validate()
        if not all(math.isfinite(value) for _, value in measures.flatten("", result)):
            return False
        record("evaluation", done, result)
        record("fills", done, {"prompts": options.fills(trainer.encoder)})
        return True

    if first == 0:
        validate(0)
    gathered: list[tuple[Tensor, Tensor, Tensor]] = []
    diverged = None
    saved, begun = time.monotonic(), time.perf_counter()
    for number in range(first, run.steps):
        gathered.append(trainer.step(number))
        done = number + 1
        last = done == run.steps
        if done % log_every and done % curve_every and not last:
            continue
        losses, norms, counts = (torch.stack(column).double().cpu() for column in zip(*gathered, strict=True))
        counters["seconds"] += time.perf_counter() - begun
        gathered = []
        if (diverged := _first_not_finite(losses, norms, done)) is not None:
            break
        for name, count in zip(COUNTED, counts.sum(0).tolist(), strict=True):
            counters[name] += count
        record("train", done, _training_record(run, number, losses, norms, counts))
        if (done % curve_every == 0 or last) and not validate(done):
            diverged = done
            break
        stop = options.stop()
        if stop or time.monotonic() - saved >= options.checkpoint_seconds:
            log.sync()
            checkpoint.save(keep, checkpoint.State(done, trainer.optimizer.state(), counters))
            saved = time.monotonic()
        if stop:
            log.close()
            raise Interrupted(f"saved at step {done} of {run.steps}")
        begun = time.perf_counter()
    log.close()
    checkpoint.save_weights(folder / "weights.safetensors", trainer.encoder, {"run": folder.name})
    ended = run.steps if diverged is None else diverged
    rate = _rate(run, ended - 1)
    return {
        "status": "finished" if diverged is None else "diverged",
        "steps": ended,
        "tokens": ended * run.tokens_per_step,
        "flops": ended * flops,
        "realised": {
            "eligible": int(counters["eligible"]),
            "selected": int(sum(counters[kind] for kind in KINDS)),
            **{name: int(counters[name]) for name in COUNTED[1:]},
        },
        "diverged": None if diverged is None else {"step": diverged, "learning_rate": rate},
        "training_seconds": round(counters["seconds"], 3),
    }


def _rate(run: config.Run, number: int) -> float:
    begin = number * run.tokens_per_step
    return schedules.learning_rate(run.optimizer, run.budget_tokens, begin, begin + run.tokens_per_step)


def _training_record(
    run: config.Run, number: int, losses: Tensor, norms: Tensor, counts: Tensor
) -> dict[str, Any]:
    targets = {name: int(n) for name, n in zip(COUNTED[1:], counts.sum(0).tolist()[1:], strict=True)}
    predicted = counts[:, -1]
    return {
        # Weighted by targets: the mean over the interval's targets, not over its steps.
        "loss_nats": float((losses * predicted).sum() / predicted.sum().clamp(min=1)),
        "learning_rate": _rate(run, number),
        "gradient_norm": float(norms.mean()),
        "targets": targets,
    }


def _first_not_finite(losses: Tensor, norms: Tensor, done: int) -> int | None:
    """The step, counted from 1, at which a loss or gradient stopped being a number."""
    for place, (loss, norm) in enumerate(zip(losses.tolist(), norms.tolist(), strict=True)):
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return done - len(losses) + place + 1
    return None
