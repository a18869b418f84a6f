"""The names of everything that can be measured on a run, so that a contrast can be checked early.

Names read from the general to the special, with the unit last:
`test.yardstick.loss_nats`, `validation.own.random.accuracy`, `probe.layer_2.accuracy`.
"""

from collections.abc import Iterator
from typing import Any, Literal

SPLITS = ("validation", "test")
CORRUPTIONS = ("yardstick", "own")
"""`yardstick`: 15 %, all [MASK], the same for every arm; `own`: as the arm was trained."""
KINDS = ("mask", "same", "random")
QUANTITIES = ("loss_nats", "accuracy")


def names(layers: int) -> list[str]:
    """Every measure of a run whose encoder has `layers` layers."""
    found = [
        f"{split}.{corruption}.{kind}{quantity}"
        for split in SPLITS
        for corruption in CORRUPTIONS
        for kind in ("", *(f"{k}." for k in KINDS if corruption == "own"))
        for quantity in QUANTITIES
    ]
    probes = ["probe", *(f"probe.layer_{layer}" for layer in range(layers + 1))]
    return found + [f"{probe}.{what}" for probe in probes for what in ("accuracy", "ambiguous_accuracy")]


def better(measure: str) -> Literal["higher", "lower"]:
    """Which way is good."""
    return "lower" if measure.endswith("loss_nats") else "higher"


def flatten(prefix: str, result: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """('test.own', {...}) -> ('test.own.loss_nats', 4.2), ('test.own.mask.loss_nats', 4.6), …"""
    for name, value in result.items():
        if isinstance(value, dict):
            yield from flatten(f"{prefix}.{name}", value)
        else:
            yield f"{prefix}.{name}", value
