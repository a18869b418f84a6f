"""A golden run: a tiny training of a code path, and the digest of the bits it leaves.

It goes through the real Trainer, is interrupted once, and goes on from its checkpoint in new objects. Its text
is made here, and so short that the run reads it a few times over.
"""

import hashlib
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from mlm import checkpoint, config, devices, identity, measures, metrics, model
from mlm.errors import OtherEachTime
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
        OtherEachTime: a part of the user's own makes other bits the second time.
    """
    found = _bits(run, dtype)
    if run.plugins and _bits(run, dtype) != found:
        raise OtherEachTime(
            f"{', '.join(run.plugins.values())}: comes to other bits when the same run is made again, and "
            "no digest would tell; keep no state, and draw from the `uniform` that is given or from "
            "`mlm.randomness.generator` alone"
        )
    return found


def _bits(run: config.Run, dtype: Literal["float32", "bfloat16"]) -> dict[str, str]:
    device, activations = devices.prepare(config.Numerics(device="cpu", dtype=dtype))
    # Not oneDNN: its kernels are those of this CPU alone.
    torch.backends.mkldnn.set_flags(False)  # type: ignore[no-untyped-call]
    begins_word = [token % 3 > 0 for token in range(N_TOKENS)]
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == STOP_AT

    def trained(folder: Path) -> dict[str, Any]:
        encoder = model.build(run, N_TOKENS, activations).to(device).train()
        data = {name: _text(name, 20 * run.sequence_length) for name in ("train", "validation")}
        options = Options(math.inf, lambda record: None, stop, lambda encoder: [])
        return train(folder, Trainer(run, data, begins_word, encoder), options)

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
        told = [_told(record) for record in metrics.read(folder / "metrics.jsonl")]
        kept = [safetensors.torch.load_file(kept_weights(folder, step)) for step in run.kept_steps]
        weights = safetensors.torch.load_file(folder / "weights.safetensors")
    counters = {name: value for name, value in state.counters.items() if name != "seconds"}
    return {
        "checkpoint": identity.digest([state.step, counters, _digest(state.tensors)]),
        "metrics": identity.digest([told, {key: ended[key] for key in ENDED}]),
        "weights": identity.digest([_digest(tensors) for tensors in (*kept, weights)]),
    }


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
