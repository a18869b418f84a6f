"""Made-up results of the experiments as they are stated, so that the paper is seen with all of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from synthetic_results import write_json

from mlm import planner
from mlm.config import Run
from mlm.files import file_sha256, read_json
from mlm.layout import RESULTS, study_file
from mlm.study import Cell, Study

ACCURACY = {"pairs": 0.52, "radius": 0.3}
MOMENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
PARTS = ("train", "validation", "test")


def write(
    scale: str, names: list[str], *, spread: float = 1.0, missing: int = 0, few: bool = False, lines: int = 4
) -> Study:
    """Plan experiments at a scale, in the current folder, and make up what their runs found.

    Args:
        spread: of the noise between seeds, in units in which arms differ by about one.
        missing: so many runs of each experiment have not ended.
        few: leave out values that no contrast is about, which are many.
        lines: of the curve of each run, beside its first.
    """
    study = planner.load_study(scale, names)
    study.write()
    path = study_file(scale)
    write_json(path, read_json(path, "") | {"named": names})
    cells = [cell for cell in study.cells if cell.experiment in names]
    left: dict[str, int] = {}
    for cell in cells:
        left[cell.experiment] = left.get(cell.experiment, 0) + 1
        if left[cell.experiment] > missing:
            _run(study, cell, spread, few, lines)
    return study


def _run(study: Study, cell: Cell, spread: float, few: bool, lines: int) -> None:
    run = study.runs[cell.digest]
    folder, config = run.folder, run.config
    effect = float(np.random.default_rng([*cell.arm.encode()]).normal())
    draws = np.random.default_rng([cell.seed, *cell.digest.encode()])
    level = 0.02 * (effect + spread * float(draws.normal()))
    if not (folder / "run.json").exists():
        _ended(folder, config, cell.digest, run.code, level, lines)
    names = study.names(cell.experiment)[cell.arm]
    for one in study.measures[cell.experiment]:
        mine = [name for name in names if _belongs(name, one.name)]
        if few:
            asked = {row["measure"] for row in study.contrast_rows(cell.experiment)}
            told = [name for name in mine if name in asked or name.startswith("reach.")]
            mine = told or mine[:1]
        values = {name: _value(name, config, level) for name in mine}
        record = {"run": cell.digest, "measure": one.name, "status": "finished", "values": values}
        if one.name == "probe":
            looked = {"lookup.word": 0.839, "lookup.first_piece": 0.644}
            references = {f"{k}.{w}": v for k, v in looked.items() for w in ("accuracy", "ambiguous_accuracy")}
            counts = {"train_words": 56_000, "test_words": 21_000, "ambiguous_words": 9_300, "tags": 61}
            record |= {"references": references, "counts": counts}
        if not mine:
            record["counts"] = {"bytes": 0}  # a masked arm has no bits per byte
        if one.over_training:
            moments = [k for k in MOMENTS if 0 < k < 1]
            record["over_training"] = [
                {
                    "step": 1,
                    "tokens": int(k * config.budget_tokens),
                    "values": {n: v * k for n, v in values.items()},
                }
                for k in moments
            ]
        write_json(folder / one.file, record)
        if one.of_untrained:
            there = RESULTS / "untrained" / cell.untrained / one.file
            write_json(
                there, record | {"run": cell.untrained, "values": {n: 0.9 * v for n, v in values.items()}}
            )


def _belongs(name: str, measure: str) -> bool:
    kind, _, task = measure.partition(".")
    first = name.partition(".")[0]
    heads = {
        "evaluation": ("test", "validation"), "corruptions": ("corruption",), "bits_per_byte": ("bits",),
        "tasks": (task,), "finetune": ("finetune",), "plugins": (task,),
    }  # fmt: skip
    return first in heads.get(kind, (kind,)) and (kind != "finetune" or name.split(".")[1] == task)


def _value(name: str, config: Run, level: float) -> float:
    last = name.rpartition(".")[2]
    if name.startswith("reach."):
        tokens = 0.6 * config.budget_tokens * (1 + 5 * level)
        made_up = {"tokens": tokens, "flops": 4e6 * tokens, "observed_tokens": config.budget_tokens}
        return float(made_up.get(last, 0.0))
    if last == "loss_nats":
        return 4.4 - 10 * level
    return 0.75 + level - (0.06 if "ambiguous" in name else 0.0) - (0.02 if "layer" in name else 0.0)


def _ended(folder: Path, config: Run, digest: str, code: str, level: float, number: int) -> None:
    lines = []
    for k in np.linspace(0, 1, 1 + number).tolist():
        found: dict[str, Any] = {"loss_nats": 8 - 3.6 * k - 10 * level * k, "accuracy": 0.4 * k}
        place = {"step": int(k * config.steps), "tokens": int(k * config.budget_tokens), "train_seconds": k}
        lines.append({"event": "evaluation", **place, "yardstick": found, "own": found})
        lines.append(
            {"event": "train", **place, "loss_nats": 8 - 3.6 * k, "learning_rate": 1e-3, "gradient_norm": 1.0}
        )
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    split = config.masking.split
    selected = round(config.masking.rate * config.budget_tokens)
    kinds = {kind: round(selected * getattr(split, kind)) for kind in ("mask", "same", "random")}
    size = {"characters": 4_400_000, "bytes": 4_450_000, "tokens": 1_250_000}
    write_json(folder / "run.json", {
        "digest": digest, "status": "finished", "diverged": None, "steps": config.steps,
        "tokens": config.budget_tokens, "flops": 4_000_000 * config.budget_tokens, "training_seconds": 25.0,
        "wall_seconds": 30.0, "code": code, "git": {"commit": "5" * 40, "dirty": False},
        "realised": {"eligible": config.budget_tokens, "selected": selected, **kinds,
                     "predicted": round(selected * config.masking.predicted)},
        "files": {"metrics.jsonl": file_sha256(folder / "metrics.jsonl")},
        "versions": {"torch": "2.13.0", "numpy": "2.4.6"}, "device": "synthetic",
        "data": {"corpus": {"title": f"{config.corpus} (synthetic results)", "licence": "Free.",
                            "splits": {name: {"documents": 2, **size} for name in PARTS}}},
    })  # fmt: skip
