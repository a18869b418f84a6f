"""An entry of numbers.json: a number with its runs. What it holds is said in `analysis.numbers`."""

from collections.abc import Iterable, Mapping
from typing import Any

Entry = dict[str, Any]


def new_entry(
    value: float | None, digits: int | None, unit: str, code: str | None, commits: Mapping[str, str | None],
    digests: Iterable[str] | None = None,
) -> Entry:  # fmt: skip
    """One number without an interval.

    Args:
        digits: decimals to show; None writes it as it is.
        commits: digest -> commit that the run was made from.
        digests: runs that the number comes from; all of `commits`, unless told.
    """
    mine = sorted(digests if digests is not None else commits)
    made_from = {commits.get(digest) for digest in mine} - {None}
    return {
        "value": value,
        "low": None,
        "high": None,
        "n": None,
        "digits": digits,
        "unit": unit,
        "interval": None,
        "runs": mine,
        "code": code,
        "git_commit": made_from.pop() if len(made_from) == 1 else None,
    }
