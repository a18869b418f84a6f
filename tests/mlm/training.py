"""What tests of training share: small runs, changes of them, and training in this process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mlm import config, metrics, shards, train
from mlm.encoder import Encoder
from mlm.train import Options, Trainer

BEGINS_WORD = [number % 3 == 0 for number in range(400)]


def small(run: config.Run, **changes: Any) -> config.Run:
    return config.Run.model_validate({**run.model_dump(), **changes})


def options(stop: Callable[[], bool] = lambda: False, seen: list | None = None, often: float = 0.0) -> Options:
    return Options(often, (seen if seen is not None else []).append, stop, lambda encoder: [])


def trainer(run: config.Run, data: dict[str, shards.Shard], dtype: torch.dtype = torch.float32) -> Trainer:
    return Trainer(run, data, BEGINS_WORD, Encoder(run.encoder, 400, run.seed, dtype))


def records(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl but for the one thing that two runs may differ in."""
    found = list(metrics.read(folder / "metrics.jsonl"))
    return [{k: v for k, v in record.items() if k != "train_seconds"} for record in found]


def to_the_end(run: config.Run, data: dict[str, shards.Shard], folder: Path, **kind: Any) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    outcome = train.train(folder, trainer(run, data, **kind), options())
    return {k: v for k, v in outcome.items() if k != "training_seconds"}


MOVING = {
    "unit": "span",
    "rate": 0.4,
    "predicted": 0.5,
    "span": {"longest": 4},
    "change": {"shape": "cosine", "rate": 0.1, "split": {"mask": 1.0}},
}


GROWING = {"shape": "staged", "values": [2, 4, 8, 16], "ends": [0.3, 0.6, 0.9]}
CHANGES: dict[str, dict[str, Any]] = {
    "spans at a changing rate": {"masking": MOVING},
    "longer and longer": {"lengths": GROWING},
    "wider and wider": {"attention": {"window": {**GROWING, "shape": "linear", "ends": []}}},
    "causal, in groups of stretches": {"objective": "causal", "attention": {"group": 8}, "stretch": 4},
    "sentence pairs": {"objective": "mlm+nsp"},
    "sentence order alone": {"objective": "sop"},
    "micro-batches": {"micro_batch": 2, "checkpoints_at": {"first": 600, "number": 5}},
}


def changed(run: config.Run, name: str) -> config.Run:
    encoder = {**run.encoder.model_dump(), "segments": "sentence" in name}
    return small(run, encoder=encoder, **CHANGES[name])
