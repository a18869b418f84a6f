"""How arms, measures and numbers are written for a reader."""

import math
import re
from collections.abc import Iterable
from typing import Any

from analysis import verdicts
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
    "begun": "share of runs that begin past",
    "observed_tokens": "training tokens over which runs were looked at for",
}
KEYS = {
    "masking.rate": "mask rate",
    "masking.predicted": "predicted share",
    "masking.split": "split",
    "attention.group": "visible tokens",
    "vocabulary.size": "pieces",
}
"""Configuration keys whose last word alone would not do."""
NAMES = {"mlm": "MLM", "bpe": "BPE", "nsp": "NSP", "sop": "SOP", "mlm+nsp": "MLM + NSP", "mlm+sop": "MLM + SOP"}


SPLIT = re.compile(r"\d+-\d+-\d+")


def heading(arms: Iterable[str]) -> str:
    """The head of a column of arms.

    >>> heading(["80-10-10", "100-0-0"]), heading(["80-10-10", "causal"])
    ('MASK/SAME/RND', 'arm')
    """
    return "MASK/SAME/RND" if all(map(SPLIT.fullmatch, arms)) else "arm"


def arm(name: str) -> str:
    """A corruption split is written as in BERT's table 8; any other arm by its name.

    >>> arm("80-10-10"), arm("no-warmup")
    ('80/10/10', 'no-warmup')
    """
    return name.replace("-", "/") if SPLIT.fullmatch(name) else name


def title(name: str) -> str:
    """A measure in words, as a heading.

    >>> title("probe.accuracy")
    'Part-of-speech accuracy'
    """
    words = measure(name)
    return words[0].upper() + words[1:]


def measure(name: str) -> str:
    """A measure in words.

    >>> measure("probe.layer_2.ambiguous_accuracy")
    'part-of-speech accuracy on ambiguous words, layer 2'
    >>> measure("test.own.random.loss_nats")
    "test loss under the arm's own corruption, random tokens (nats)"
    >>> measure("pairs.agreement_plain.accuracy"), measure("reach.4.4.tokens")
    ('minimal pairs accuracy, agreement plain', 'training tokens to reach 4.4 nats')
    >>> measure("reach.unigram-0.5.tokens")
    'training tokens to reach 0.5 nats below unigram entropy'
    >>> measure("corruption.80-10-10.loss_nats")
    'held-out loss under the corruption of 80/10/10 (nats)'
    >>> measure("radius.8.loss_nats")
    'held-out loss, text beyond 8 tokens resampled (nats)'
    """
    if name in TRAINING:
        return TRAINING[name]
    parts = name.split(".")
    first, *inner, last = parts
    if first == "reach":
        return f"{COSTS[last]} {level('.'.join(inner))}"
    unit = " (nats)" if last == "loss_nats" else ""
    if first == "corruption":
        of = ".".join(inner)
        return f"held-out {'loss' if unit else last} under the corruption of {arm(of)}{unit}"
    if first == "radius":
        away = "no text resampled" if inner == ["all"] else f"text beyond {inner[0]} tokens resampled"
        return f"held-out loss, {away}{unit}"
    if first not in measures.SPLITS:
        words = {"probe": "part-of-speech", "pairs": "minimal pairs"}.get(first, first.replace("_", " "))
        words += {"loss_nats": " loss of good sentences"}.get(last, f" {last.replace('_', ' ')}")
        words = words.replace("ambiguous accuracy", "accuracy on ambiguous words")
        inside = [part.replace("layer_", "layer ").replace("_", " ") for part in inner]
        return ", ".join([words, *inside]) + unit
    split, corruption, *kind, quantity = parts
    words = f"{split} {'loss' if quantity == 'loss_nats' else 'accuracy'}"
    words += " on the common yardstick" if corruption == "yardstick" else " under the arm's own corruption"
    words += f", {OF[kind[0]]}" if kind else ""
    return words + unit


def level(name: str) -> str:
    """A loss whose cost is asked for.

    >>> level("4.4"), level("unigram-0.5")
    ('4.4 nats', '0.5 nats below unigram entropy')
    """
    below = " below unigram entropy" if name.startswith("unigram-") else ""
    return f"{name.removeprefix('unigram-')} nats{below}"


def key(name: str) -> str:
    """A key of the configuration in words.

    >>> key("masking.rate"), key("optimizer.learning_rate")
    ('mask rate', 'learning rate')
    """
    return KEYS.get(name, name.rpartition(".")[2].replace("_", " "))


def setting(name: str, value: Any) -> str:
    """What a configuration says under a key, for somebody who does not see the key.

    >>> setting("masking.split", {"mask": 0.8, "same": 0.1, "random": 0.1}), setting("objective", "mlm")
    ('80/10/10', 'MLM')
    >>> setting("encoder.query_key_norm", False), setting("optimizer.learning_rate", 0.003)
    ('no query key norm', 'learning rate 0.003')
    """
    if isinstance(value, dict):
        return "/".join(f"{100 * share:g}" for share in value.values())
    if value is None or isinstance(value, bool):
        return key(name) if value else f"no {key(name)}"
    return NAMES.get(value, value) if isinstance(value, str) else f"{key(name)} {value:g}"


def task(name: str) -> str:
    """A sentence task, from frozen features or fine-tuned.

    >>> task("trec"), task("finetune.trec")
    ('trec', 'trec, fine-tuned')
    """
    return f"{name.removeprefix('finetune.')}, fine-tuned" if name.startswith("finetune.") else name


def digits(name: str) -> int:
    """Decimals that a mean or a difference of the measure is shown with."""
    if name.startswith("reach.") and not name.endswith((".censored", ".begun")):
        return 0
    return 6 if name == "train.learning_rate" else 3


SCALES = {"tokens": (1e6, " M"), "flops": (1e12, " T")}


def scale(name: str) -> tuple[float, str]:
    """What a figure shows a measure in, and how that is written behind a number.

    >>> scale("reach.4.4.tokens"), scale("probe.accuracy")
    ((1000000.0, ' M'), (1.0, ''))
    """
    return SCALES.get(name.rpartition(".")[2], (1.0, ""))


MOST_DIGITS = 5
ROUNDING = 1e-8
"""What is smaller is rounding of the machine, whatever the measure's unit."""


def telling(digits: int, *values: float | None) -> int:
    """Decimals for numbers that stand together, such as a difference and the ends of its interval.

    As many as are given, or more, so that none is shown as zero that is not: an interval beside `inconclusive`
    would seem to begin at zero. Beside larger ones, what five decimals do not show is as good as zero.

    >>> telling(3, 0.006, -0.0004, 0.013), telling(3, 0.0, 1e-9, None), telling(0, -1_204_224.0)
    (4, 3, 0)
    >>> telling(3, 2.3e-7, -1e-7)
    8
    """
    largest = max((abs(value) for value in values if value is not None and math.isfinite(value)), default=0.0)
    if largest > ROUNDING and not round(largest, MOST_DIGITS):  # all of them are as small as that
        return 1 - math.floor(math.log10(largest))
    seen = [value for value in values if value is not None and round(value, MOST_DIGITS)]
    while digits < MOST_DIGITS and not all(round(value, digits) for value in seen):
        digits += 1
    return digits


def number(value: float | None, decimals: int | None, *, signed: bool = False) -> str:
    """A number with a true minus sign; `decimals` None writes it as it is.

    >>> number(-0.0312, 3), number(2621440, 0), number(0.003, None), number(None, 2)
    ('−0.031', '2,621,440', '0.003', '—')
    >>> number(1_228_800.0, None), number(0.02, None)
    ('1,228,800', '0.02')
    """
    if value is None or math.isnan(value):
        return "—"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if decimals is None and abs(value) >= 1000 and value == int(value):
        decimals = 0  # six digits would not be all of it
    sign = "+" if signed else ""
    text = f"{value:{sign},.{decimals}f}" if decimals is not None else f"{value:{sign}g}"
    if decimals is not None and float(text.replace(",", "")) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "−")


def known(name: str) -> str:
    """What is to be said of pairs that are not tested, as some run's cost of reaching a loss is not known.

    >>> known("reach.4.4.tokens"), known("reach.4.4.censored")
    ('of runs whose cost is known', 'of which some are past the loss from the start')
    """
    return "of which some are past the loss from the start" if name.endswith(".censored") else KNOWN


KNOWN = "of runs whose cost is known"
"""Of a difference that leaves out runs that do not come down to a loss."""


def within(tokens: float) -> str:
    """Up to where something is counted.

    >>> within(983_040)
    'within the first 983,040 tokens'
    """
    return f"within the first {number(tokens, 0)} tokens"


def p_value(p: float | None) -> str:
    """A p value with its relation.

    >>> p_value(0.0078125), p_value(0.000002), p_value(None)
    ('= 0.0078', '< 0.0001', 'not given')

    It is on the side of the level where it says to be:

    >>> p_value(819 / 16384), p_value(205 / 4096)
    ('= 0.04999', '= 0.05005')
    """
    if p is None:
        return "not given"
    if p < 0.0001:
        return "< 0.0001"
    decimals = 4 if p < 0.1 else 3
    while p != verdicts.LEVEL and (round(p, decimals) - verdicts.LEVEL) * (p - verdicts.LEVEL) <= 0:
        decimals += 1
    return f"= {p:.{decimals}f}"
