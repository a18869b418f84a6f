"""More experiments in a synthetic study: rates, runs that never leave a plateau, a matrix of corruptions."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from synthetic_results import MEASURE_FILES, Synthetic, write_json

from mlm import config, identity
from mlm.files import file_sha256, read_json

Values = Callable[[str, int, config.Run], dict[str, float]]
Kept = Callable[[str, int, config.Run], dict[int, dict[str, float]]]
RATES = (0.15, 0.3, 0.45, 0.6)
TWO_SPLITS = {
    "80-10-10": {"mask": 0.8, "same": 0.1, "random": 0.1},
    "100-0-0": {"mask": 1.0, "same": 0.0, "random": 0.0},
}
GROUPS = (16, 64, 256)
LEARNING_RATES = (1e-3, 2e-3, 4e-3)
LOOKED_AT = 2_400_000
"""Tokens over which a run of `credit` is looked at."""
ON_THE_WAY = (122_880, 245_760)
"""Tokens after which weights of `radius` are kept."""
SLOPES = {"mlm": 0.3, "causal": 0.0}
"""Of log tokens on log candidates, as `credit` is made."""


def add(
    made: Synthetic, name: str, arms: dict[str, dict[str, Any]], values: Values, figures: list[dict[str, Any]],
    contrasts: list[dict[str, Any]], *, seeds: int = 8, measure: str, base: dict[str, Any] | None = None,
    kept: Kept | None = None, tried: dict[str, tuple[str, float]] | None = None,
) -> None:  # fmt: skip
    """Write runs of another experiment beside those that are there, and tell the study of them.

    Args:
        arms: arm -> changes to the base run.
        values: (arm, seed, run) -> what was measured.
        kept: the same of weights on the way, by the tokens until then.
        tried: of trials of learning rates, as `analysis.study.Experiment` has it.
    """
    path = made.results / made.scale / "study.json"
    study = read_json(path, "")
    like = read_json(next(iter(sorted(made.results.glob("runs/*/run.json")))), "")
    names: dict[str, list[str]] = {}
    for arm, changes in arms.items():
        for seed in range(seeds):
            run = config.Run.model_validate({**(base or {}), **changes, "seed": seed})
            content = {"training": run.model_dump(), "numerics": study["numerics"], "code": like["code"],
                       "data": {"corpus": "c-0", "vocabulary": "v-0", "shards": "s-0"}}  # fmt: skip
            digest = identity.digest(json.loads(json.dumps(content)))
            folder = made.results / "runs" / digest
            write_json(folder / "config.json", content)
            found = values(arm, seed, run)
            (folder / "metrics.jsonl").write_text(
                "".join(json.dumps(line) + "\n" for line in _curve(run, seed))
            )
            for part in ("metrics.jsonl", "weights.safetensors"):
                like["files"].pop(part, None)
            realised = {
                "eligible": 1000,
                "selected": 150,
                "mask": 120,
                "same": 15,
                "random": 15,
                "predicted": 150,
            }
            write_json(folder / "run.json", like | {
                "digest": digest, "status": "finished", "diverged": None, "tokens": run.budget_tokens,
                "steps": run.steps, "flops": 4_000_000 * run.budget_tokens, "realised": realised,
                "files": {"metrics.jsonl": file_sha256(folder / "metrics.jsonl"),
                          "weights.safetensors": "0" * 64},
            })  # fmt: skip
            record = {"run": digest, "measure": "evaluation", "status": "finished", "values": found}
            if kept is not None:
                record["over_training"] = [
                    {"step": tokens // run.tokens_per_step, "tokens": tokens, "values": on_the_way}
                    for tokens, on_the_way in kept(arm, seed, run).items()
                ]
            write_json(folder / MEASURE_FILES["evaluation"], record)
            names[arm] = sorted({*names.get(arm, ()), *found})
            cell = {"experiment": name, "arm": arm, "seed": seed, "digest": digest, "untrained": digest}
            study["index"].append(cell)
    first = next(iter(arms))
    study["experiments"][name] = {
        "title": f"Synthetic: {name}", "question": f"What comes of {name}?", "claim": f"That {name} matters.",
        "reference": "A reference", "cost": "some runs", "baseline": first, "primary_measure": measure,
        "arms": list(arms), "measures": names, "measure_files": {"evaluation": MEASURE_FILES["evaluation"]},
        "untrained_files": {}, "figures": figures,
        "contrasts": [{"against": first, "measure": measure, "family": "primary", "expect": "higher", **one}
                      for one in contrasts],
        "tried": tried or {},
    }  # fmt: skip
    write_json(path, study)


def _curve(run: config.Run, seed: int) -> list[dict[str, Any]]:
    """Evaluations at five moments."""
    lines: list[dict[str, Any]] = []
    for k in range(5):
        found = {"loss_nats": 7.0 - 0.5 * k + 0.01 * seed, "accuracy": 0.1 * k}
        place = {
            "event": "evaluation",
            "step": k,
            "tokens": k * run.budget_tokens // 4,
            "train_seconds": float(k),
        }
        lines.append({**place, "yardstick": found, "own": found})
    return lines


def rate(made: Synthetic, seeds: int = 8) -> None:
    """Four rates by two splits; the best rate is .3."""
    arms = {
        f"{split}-at-{100 * r:g}": {"masking": {"rate": r, "split": shares}}
        for split, shares in TWO_SPLITS.items()
        for r in RATES
    }

    def values(arm: str, seed: int, run: config.Run) -> dict[str, float]:
        draws = np.random.default_rng([seed, *arm.encode()])
        loss = 4.2 + 3 * (run.masking.rate - 0.3) ** 2 + 0.1 * run.masking.split.mask + draws.normal(0, 0.02)
        return {"test.yardstick.loss_nats": loss}

    asked = [
        {"kind": "dose", "x": "masking.rate", "by": ["masking.split"]},
        {"kind": "arms", "by": ["masking.split"]},
    ]
    stated = [{"arm": "80-10-10-at-60"}, {"arm": "100-0-0-at-15", "family": "secondary"}]
    add(made, "rate", arms, values, asked, stated, seeds=seeds, measure="test.yardstick.loss_nats")


def trials(made: Synthetic, of: str, losses: dict[str, list[float]], seeds: int = 2) -> str:
    """Trials of arms of an experiment at `LEARNING_RATES`.

    Args:
        losses: arm -> its mean loss at each rate.

    Returns:
        What they are called.
    """
    tried = {f"{arm}.lr-{rate:g}": (arm, rate) for arm in losses for rate in LEARNING_RATES}
    arms = {
        name: {
            "optimizer": {"learning_rate": rate},
            "masking": {"rate": 0.15 + 0.1 * (arm != next(iter(losses)))},
        }
        for name, (arm, rate) in tried.items()
    }

    def values(name: str, seed: int, run: config.Run) -> dict[str, float]:
        arm, rate = tried[name]
        return {"test.own.loss_nats": losses[arm][LEARNING_RATES.index(rate)] + 0.01 * seed}

    add(made, f"{of}-tune", arms, values, [], [], seeds=seeds, measure="test.own.loss_nats", tried=tried)
    return f"{of}-tune"


def credit(made: Synthetic, seeds: int = 8, lost: float = 1.6) -> None:
    """Tokens to leave are a power of the candidates; of the last learning rate some runs never do.

    Args:
        lost: how much longer the last learning rate takes than the others.
    """
    arms = {
        f"{objective}-{group}-at-{learning_rate:g}": {
            "objective": objective,
            "attention": {"group": group},
            "optimizer": {"learning_rate": learning_rate},
        }
        for learning_rate in LEARNING_RATES
        for objective in SLOPES
        for group in GROUPS
    }

    def values(arm: str, seed: int, run: config.Run) -> dict[str, float]:
        draws = np.random.default_rng([seed, *arm.encode()])
        group = run.attention.group or 0
        tokens = 600_000 * (group / 16) ** SLOPES[run.objective] * float(np.exp(draws.normal(0, 0.15)))
        tokens *= lost if run.optimizer.learning_rate == LEARNING_RATES[-1] else 1.0
        censored = tokens > LOOKED_AT
        level = "reach.unigram-0.5"
        found = {
            f"{level}.censored": float(censored),
            f"{level}.begun": 0.0,
            f"{level}.observed_tokens": LOOKED_AT,
        }
        return found if censored else {**found, f"{level}.tokens": tokens, f"{level}.flops": 4e6 * tokens}

    base = {"sequence_length": 256, "stretch": 16, "batch_size": 16}
    stated = [{"arm": "mlm-256-at-0.001"}]
    add(made, "credit", arms, values, [{"kind": "leaving"}], stated, seeds=seeds,
        measure="reach.unigram-0.5.tokens", base=base)  # fmt: skip


def corruptions(made: Synthetic, seeds: int = 8) -> None:
    """Three arms judged under each other's corruption, and their losses over training."""
    arms = {
        name: {"masking": {"split": shares}, "budget_tokens": 1_048_576}
        for name, shares in {**TWO_SPLITS, "0-0-100": {"mask": 0.0, "same": 0.0, "random": 1.0}}.items()
    }

    def values(arm: str, seed: int, run: config.Run) -> dict[str, float]:
        draws = np.random.default_rng([seed, *arm.encode()])
        apart = {other: abs(list(arms).index(other) - list(arms).index(arm)) for other in arms}
        found = {
            f"corruption.{other}.loss_nats": 4 + 0.4 * d + draws.normal(0, 0.02) for other, d in apart.items()
        }
        return {**found, "test.yardstick.loss_nats": 4 + draws.normal(0, 0.1)}

    asked = [
        {"kind": "matrix"},
        {"kind": "over", "measure": "validation.own.loss_nats"},
        {
            "kind": "over",
            "name": "operations",
            "measure": "validation.own.loss_nats",
            "x": "flops",
            "log": True,
        },
    ]
    stated = [{"arm": "100-0-0"}]
    add(made, "corruptions", arms, values, asked, stated, seeds=seeds, measure="test.yardstick.loss_nats")


def radius(made: Synthetic, seeds: int = 8, kept: bool = True) -> None:
    """Eight arms that come to use context out to 16 tokens: the more in sight, the later.

    Args:
        kept: whether weights on the way are measured too.
    """
    groups = {"mlm": GROUPS, "causal": (16, 32, 64, 128, 256)}
    budgets = {"mlm": 983_040, "causal": 491_520}
    arms = {
        f"{objective}-{group}": {
            "objective": objective,
            "attention": {"group": group},
            "budget_tokens": budgets[objective],
        }
        for objective, sights in groups.items()
        for group in sights
    }

    def losses(arm: str, seed: int, run: config.Run, tokens: int) -> dict[str, float]:
        draws = np.random.default_rng([seed, tokens, *arm.encode()])
        learned = 1 - np.exp(-tokens / (40_000 * (run.attention.group or 0) ** 0.5))
        gains = {"1": 0.4, "4": 1.0, "16": 1.3, "all": 1.3}
        return {
            f"radius.{distance}.loss_nats": 6.4 - float(learned) * gain + float(draws.normal(0, 0.03))
            for distance, gain in gains.items()
        }

    def values(arm: str, seed: int, run: config.Run) -> dict[str, float]:
        return losses(arm, seed, run, run.budget_tokens)

    def on_the_way(arm: str, seed: int, run: config.Run) -> dict[int, dict[str, float]]:
        return {tokens: losses(arm, seed, run, tokens) for tokens in ON_THE_WAY}

    base = {"sequence_length": 256, "stretch": 16, "batch_size": 16}
    add(made, "radius", arms, values, [{"kind": "radius"}], [{"arm": "mlm-256"}], seeds=seeds,
        measure="radius.all.loss_nats", base=base, kept=on_the_way if kept else None)  # fmt: skip
