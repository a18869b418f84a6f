"""An entry of numbers.json: a number with its runs. What it holds is said in `analysis.numbers`."""

from collections.abc import Iterable
from typing import Any

Entry = dict[str, Any]


def new_entry(value: float | None, digits: int | None, unit: str, runs: Iterable[str]) -> Entry:
    """One number without an interval.

    Args:
        digits: decimals to show; None writes it as it is.
        runs: digests of the runs that the number comes from.
    """
    return {
        "value": value,
        "low": None,
        "high": None,
        "n": None,
        "digits": digits,
        "unit": unit,
        "interval": None,
        "runs": sorted(runs),
    }
