"""A golden run: a tiny training of a code path, and the digest of the bits it leaves.

It goes through the real Trainer, is interrupted once, and goes on from its checkpoint in new objects. Its text
is made here, and so short that the run reads it a few times over.
"""

import hashlib
import math
import random
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from mlm import checkpoint, config, devices, identity, measures, metrics, model
from mlm.errors import InputError
from mlm.golden import N_TOKENS
from mlm.layout import kept_weights
from mlm.randomness import Purpose, generator
from mlm.shards import Shard
from mlm.train import Interrupted, Options, Trainer, train

ENDED = ("status", "steps", "tokens", "flops", "realised")
STOP_AT = 3
"""The record, counted from 1, behind which the run is interrupted: with two steps a record in the middle."""


def bits(run: config.Run, dtype: Literal["float32", "bfloat16"]) -> dict[str, str]:
    """What a tiny run leaves -> digest of its bits.

    What is logged beside losses, rates, norms and counts is no part of them.

    Args:
        dtype: of the activations.

    Raises:
        InputError: something draws from a global generator, whose state is no part of a run.
    """
    device, activations = devices.prepare(config.Numerics(device="cpu", dtype=dtype))
    # Not oneDNN: its kernels are those of this CPU alone.
    torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]
    begins_word = [token % 3 > 0 for token in range(N_TOKENS)]
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == STOP_AT

    if "encoder.architecture" in run.plugins and len({_initial(run, activations, n) for n in (0, 1)}) > 1:
        raise InputError(_globally_drawn(run, "torch's"))

    def trained(folder: Path) -> dict[str, Any]:
        encoder = model.build(run, N_TOKENS, activations).to(device).train()
        before = _global_generators()
        data = {name: _text(name, 20 * run.sequence_length) for name in ("train", "validation")}
        options = Options(math.inf, lambda record: None, stop, lambda encoder: [])
        try:
            return train(folder, Trainer(run, data, begins_word, encoder), options)
        finally:
            moved = [name for name, state in _global_generators().items() if state != before[name]]
            if moved:
                raise InputError(_globally_drawn(run, moved[0]))

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        try:
            trained(folder)
        except Interrupted:
            state, _ = checkpoint.latest(folder / "checkpoints")
        else:
            raise RuntimeError("the golden run was not interrupted")
        assert state is not None
        ended = trained(folder)
        if run.masking.strategy and run.predicts_tokens and not ended["realised"]["predicted"]:
            raise InputError(
                f"masking.strategy: {run.masking.strategy}: has not predicted one token in "
                f"{ended['tokens']}, at a rate of {run.masking.rate:g}; set `predicted` where one is a target"
            )
        told = [_told(record) for record in metrics.read(folder / "metrics.jsonl")]
        kept = [safetensors.torch.load_file(kept_weights(folder, step)) for step in run.kept_steps]
        weights = safetensors.torch.load_file(folder / "weights.safetensors")
    counters = {name: value for name, value in state.counters.items() if name != "seconds"}
    return {
        "checkpoint": identity.digest([state.step, counters, _digest(state.tensors)]),
        "metrics": identity.digest([told, {key: ended[key] for key in ENDED}]),
        "weights": identity.digest([_digest(tensors) for tensors in (*kept, weights)]),
    }


def _global_generators() -> dict[str, Any]:
    """Name -> state of the generators that a process has one of."""
    _, keys, *place = np.random.get_state(legacy=True)
    return {
        "torch's": torch.get_rng_state().numpy().tobytes(),
        "NumPy's": (keys.tobytes(), *place),  # type: ignore[union-attr]
        "Python's": random.getstate(),
    }


def _globally_drawn(run: config.Run, whose: str) -> str:
    named = ", ".join(run.plugins.values()) or "the package"
    return (
        f"{named}: draws from {whose} global generator, which no checkpoint keeps and no digest tells, so that "
        "a run would have other bits each time; draw from the `uniform` that it is given, or from "
        "`mlm.randomness.generator`"
    )


def _initial(run: config.Run, activations: torch.dtype, global_seed: int) -> str:
    """Digest of the weights that a run begins with, with torch's global generator in some state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(global_seed)
        return _digest(model.build(run, N_TOKENS, activations).state_dict())


def _told(record: Mapping[str, Any]) -> list[Any]:
    place = [record["event"], record["step"]]
    if record["event"] == "train":
        return [*place, *(record[key] for key in ("loss_nats", "gradient_norm", "learning_rate", "targets"))]
    if record["event"] == "evaluation":
        return [*place, dict(measures.flatten("", {name: record[name] for name in measures.CORRUPTIONS}))]
    return place


def _digest(tensors: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _text(split: str, tokens: int) -> Shard:
    """Documents of two to five lines, a line of two to eight tokens, here and there an unknown one."""
    draws = generator(0, Purpose.ORDER, name=f"golden {split}")
    stream: list[int] = []
    offsets, lines = [0], []
    while len(stream) < tokens:
        for _ in range(draws.integers(2, 6)):
            lines.append(len(stream))
            line = draws.integers(config.N_SPECIAL, N_TOKENS, draws.integers(2, 9))
            stream += np.where(draws.random(len(line)) < 0.03, config.UNK, line).tolist()
        stream.append(config.SEP)
        offsets.append(len(stream))
    return Shard(np.array(stream, np.uint16), np.array(offsets), np.array(lines), f"golden {split}")
