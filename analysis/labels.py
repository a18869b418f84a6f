"""How arms, measures and numbers are written for a reader."""

import math
import re
from collections.abc import Iterable

from mlm import measures

TRAINING = {
    "train.loss_nats": "training loss (nats)",
    "train.learning_rate": "learning rate (per step)",
    "train.gradient_norm": "gradient norm before clipping",
}
PLAIN = {"mask": "[MASK]", "same": "same", "random": "random"}
OF = {kind: f"{word} tokens" for kind, word in PLAIN.items()} | {"relation": "how sentences go together"}
COSTS = {
    "tokens": "training tokens to reach",
    "flops": "training FLOPs to reach",
    "seconds": "training seconds to reach",
    "censored": "share of runs that are not seen to come down to",
}


SPLIT = re.compile(r"\d+-\d+-\d+")


def heading(arms: Iterable[str]) -> str:
    """The head of a column of arms.

    >>> heading(["80-10-10", "100-0-0"]), heading(["80-10-10", "causal"])
    ('MASK/SAME/RND', 'arm')
    """
    return "MASK/SAME/RND" if all(map(SPLIT.fullmatch, arms)) else "arm"


def arm(name: str) -> str:
    """A corruption split is written as in BERT's table C.2; any other arm by its name.

    >>> arm("80-10-10"), arm("no-warmup")
    ('80/10/10', 'no-warmup')
    """
    return name.replace("-", "/") if SPLIT.fullmatch(name) else name


def measure(name: str) -> str:
    """A measure in words.

    >>> measure("probe.layer_2.ambiguous_accuracy")
    'part-of-speech accuracy on ambiguous words, layer 2'
    >>> measure("test.own.random.loss_nats")
    "test loss under the arm's own corruption, random tokens (nats)"
    >>> measure("pairs.agreement_plain.accuracy"), measure("reach.4.4.tokens")
    ('minimal pairs accuracy, agreement plain', 'training tokens to reach 4.4 nats')
    """
    if name in TRAINING:
        return TRAINING[name]
    parts = name.split(".")
    first, *inner, last = parts
    if first == "reach":
        return f"{COSTS[last]} {'.'.join(inner)} nats"
    if first not in measures.SPLITS:
        words = {"probe": "part-of-speech", "pairs": "minimal pairs"}.get(first, first.replace("_", " "))
        words += {"loss_nats": " loss of good sentences"}.get(last, f" {last.replace('_', ' ')}")
        words = words.replace("ambiguous accuracy", "accuracy on ambiguous words")
        inside = [part.replace("layer_", "layer ").replace("_", " ") for part in inner]
        return ", ".join([words, *inside]) + (" (nats)" if last == "loss_nats" else "")
    split, corruption, *kind, quantity = parts
    words = f"{split} {'loss' if quantity == 'loss_nats' else 'accuracy'}"
    words += " on the [MASK]-only yardstick" if corruption == "yardstick" else " under the arm's own corruption"
    words += f", {OF[kind[0]]}" if kind else ""
    return words + (" (nats)" if quantity == "loss_nats" else "")


def task(name: str) -> str:
    """A sentence task, from frozen features or fine-tuned.

    >>> task("trec"), task("finetune.trec")
    ('trec', 'trec, fine-tuned')
    """
    return f"{name.removeprefix('finetune.')}, fine-tuned" if name.startswith("finetune.") else name


def digits(name: str) -> int:
    """Decimals that a mean of the measure is shown with; a difference has one more."""
    if name.startswith("reach.") and not name.endswith(".censored"):
        return 0
    return 6 if name == "train.learning_rate" else 3


def worse(name: str) -> str:
    """Which direction is bad, for a sentence."""
    return "lower" if measures.better(name) == "higher" else "higher"


def number(value: float | None, decimals: int | None, *, signed: bool = False) -> str:
    """A number with a true minus sign; `decimals` None writes it as it is.

    >>> number(-0.0312, 3), number(2621440, 0), number(0.003, None), number(None, 2)
    ('−0.031', '2,621,440', '0.003', '—')
    """
    if value is None or math.isnan(value):
        return "—"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    sign = "+" if signed else ""
    text = f"{value:{sign},.{decimals}f}" if decimals is not None else f"{value:{sign}g}"
    if decimals is not None and float(text.replace(",", "")) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def p_value(p: float | None) -> str:
    """A p value with its relation.

    >>> p_value(0.0078125), p_value(0.000002), p_value(None)
    ('= 0.0078', '< 0.0001', 'not given')
    """
    if p is None:
        return "not given"
    return "< 0.0001" if p < 0.0001 else f"= {p:.4f}" if p < 0.1 else f"= {p:.3f}"
