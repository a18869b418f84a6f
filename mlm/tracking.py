"""Weights & Biases beside the local files: a projection of metrics.jsonl and run.json.

It is written when a run has ended, so it costs nothing while training, and kills and resumes leave
neither doubled nor missing steps in it. Whatever goes wrong here is told once and fails no run.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlm import metrics
from mlm.evaluate import flatten
from mlm.runs import RunFolder
from mlm.study import RESULTS

PROJECT = "mlm"


def publish(run: RunFolder) -> str | None:
    """Write the W&B run of an ended run; returns what went wrong, if anything did.

    The mode is WANDB_MODE: `offline` (default), `online` or `disabled`.
    """
    mode = os.environ.get("WANDB_MODE", "offline")
    if mode == "disabled":
        return None
    try:
        _keep_inside_results()
        for earlier in (RESULTS / "wandb").glob(f"offline-run-*-{run.path.name}"):
            shutil.rmtree(earlier)  # the same content is written anew
        _write(run, mode)
    except Exception as error:
        return f"Weights & Biases: {type(error).__name__}: {error}; the local files are complete"
    return None


def _keep_inside_results() -> None:
    """W&B's folders move with the results; what the user has set stays."""
    root = RESULTS.resolve()
    os.environ.setdefault("WANDB_DIR", str(root))
    for variable, name in (("DATA", "data"), ("CACHE", "cache"), ("CONFIG", "config")):
        os.environ.setdefault(f"WANDB_{variable}_DIR", str(root / "wandb" / name))
    root.joinpath("wandb").mkdir(parents=True, exist_ok=True)


def _write(run: RunFolder, mode: str) -> None:
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    outcome = run.outcome()
    labels = run.labels
    settings = wandb.Settings(
        console="off",
        silent=True,
        x_disable_stats=True,
        x_disable_meta=True,
        disable_git=True,
        disable_code=True,
        init_timeout=30,
    )
    tracked = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        id=run.path.name,
        name=run.name,
        group="/".join(run.name.split("/")[:2]),
        job_type="train",
        tags=sorted({scale for scale, *_ in labels} | {experiment for _, experiment, *_ in labels}),
        config={
            **run.record,
            "arms": {experiment: arm for _, experiment, arm, _ in labels},
            "git": outcome["git"],
            "status": outcome["status"],
        },
        mode=mode,  # type: ignore[arg-type]
        settings=settings,
    )
    tracked.define_metric("tokens")
    tracked.define_metric("*", step_metric="tokens")
    for record in records(run.path / "metrics.jsonl"):
        tracked.log(record)
    tracked.summary.update({"status": outcome["status"], "realised": outcome["realised"]})
    tracked.finish()


def records(path: Path) -> Iterator[dict[str, Any]]:
    """What is logged of metrics.jsonl: numbers under `train/` and `validation/`, tokens as the axis."""
    for record in metrics.read(path):
        place = {key: record[key] for key in ("step", "tokens", "flops")}
        if record["event"] == "train":
            content = {key: record[key] for key in ("loss_nats", "learning_rate", "gradient_norm", "targets")}
            yield {**place, **{f"train/{key}": value for key, value in flatten_slashes(content)}}
        elif record["event"] == "evaluation":
            content = {key: record[key] for key in ("yardstick", "own")}
            yield {**place, **{f"validation/{key}": value for key, value in flatten_slashes(content)}}


def flatten_slashes(content: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Nested numbers under W&B's own separator: {'own': {'accuracy': .3}} -> ('own/accuracy', .3)."""
    for key, value in flatten("", content):
        yield key.lstrip(".").replace(".", "/"), value
