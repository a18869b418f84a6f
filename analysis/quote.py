"""How the paper's sentences quote a number: by its id, with each use remembered for the ledger.

Cells of tables are written by `labels.number`, from the tables that the entries were made from.
"""

import math
from collections.abc import Mapping
from typing import Any

from analysis import labels
from mlm.errors import InputError


class UnknownNumber(InputError):
    """An id that numbers.json does not have."""


class Quoter:
    """Formats entries of numbers.json and remembers which were used.

    >>> quote = Quoter({"a.mean": {"value": 0.71, "low": 0.70, "high": 0.72, "n": 8, "digits": 3}})
    >>> quote.num("a.mean"), quote.ci("a.mean")
    ('0.710', '95 % interval 0.700 to 0.720')
    """

    def __init__(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        self.entries = entries
        self.used: list[str] = []

    def entry(self, key: str) -> Mapping[str, Any]:
        """The entry of an id.

        Raises:
            UnknownNumber: there is none; names the ids that are nearest.
        """
        if key not in self.entries:
            import difflib

            near = difflib.get_close_matches(key, self.entries, 3, cutoff=0.4)
            hint = f"near are: {', '.join(near)}" if near else "numbers.json has no id like it"
            raise UnknownNumber(f"no number has the id {key!r}; {hint}")
        if key not in self.used:
            self.used.append(key)
        return self.entries[key]

    def has(self, key: str) -> bool:
        """Whether there is such a number, with a value."""
        return key in self.entries and self.entries[key]["value"] is not None

    def num(self, key: str, *, signed: bool = False) -> str:
        """The value; `not available` where the study has none.

        A cost says how many runs it is of, and a difference of costs up to where they count.
        """
        entry = self.entry(key)
        value = "not available"
        if entry["value"] is not None:
            value = labels.number(entry["value"], entry["digits"], signed=signed)
        return value + _of(entry)

    def p(self, key: str) -> str:
        """A p value with its relation, `= 0.0078`."""
        return labels.p_value(self.entry(key)["value"])

    def bounded(self, key: str) -> bool:
        """Whether the entry has an interval."""
        entry = self.entries.get(key, {})
        return entry.get("low") is not None and math.isfinite(entry["low"])

    def ci(self, key: str) -> str:
        """The interval in words; says so where n is too small for one."""
        entry = self.entry(key)
        if not self.bounded(key):
            pairs = entry.get("n") or 0
            return f"no bounded 95 % interval at n = {pairs}"
        low, high = (labels.number(entry[end], entry["digits"]) for end in ("low", "high"))
        return f"95 % interval {low} to {high}"

    def est(self, key: str) -> str:
        """Point and interval together."""
        return f"{self.num(key)} ({self.ci(key)})"

    def ledger(self) -> list[tuple[str, ...]]:
        """(id, value, interval, n, number of runs, first run) of every number used so far, by id."""
        rows: list[tuple[str, ...]] = []
        for key in sorted(self.used):
            entry = self.entries[key]
            ends = [labels.number(entry[end], entry["digits"]) for end in ("low", "high")]
            interval = f"[{ends[0]}, {ends[1]}]" if self.bounded(key) else "—"
            runs = entry["runs"]
            value = labels.number(entry["value"], entry["digits"]) + _of(entry)
            rows.append(
                (
                    f"`{key}`",
                    value,
                    interval,
                    str(entry["n"] or "—"),
                    str(len(runs)),
                    f"`{runs[0]}`" if runs else "—",
                )
            )
        return rows


def _of(entry: Mapping[str, Any]) -> str:
    """Which runs a number is of, where that is not all, or up to where it counts."""
    of = f" (reached by {entry['reached']})" if entry.get("reached") else ""
    of += f" {labels.within(entry['up_to_tokens'])}" if "up_to_tokens" in entry else ""
    return of + (f" ({labels.KNOWN})" if entry.get("untested") else "")
