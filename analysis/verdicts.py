"""p values of a family -> what may be said of each contrast."""

from collections.abc import Sequence
from typing import Literal

from analysis.multiplicity import holm
from analysis.signflip import smallest_p

LEVEL = 0.05
Verdict = Literal["supported", "contradicted", "equivalent", "inconclusive", "descriptive", "partial"]
VERDICTS: dict[Verdict, str] = {
    "supported": "the difference has the stated direction and its adjusted p is below the level",
    "contradicted": "the difference has the opposite direction, or is beyond the margin, at the level",
    "equivalent": "the difference lies within the margin at the level",
    "inconclusive": "the level is not reached, in either direction",
    "descriptive": "the level is out of reach for so few pairs, or what some run took to reach the loss is not "
    "known, and counting up to where all were looked at does not help",
    "partial": "runs are missing, so no verdict is given",
}
Expected = Literal["higher", "lower", "differ"]


def out_of_reach(pairs: Sequence[int], sides: int) -> list[bool]:
    """Whether a family's contrasts could not reach the level even if every pair had the same sign.

    For m contrasts of n pairs each that is m · sides / 2ⁿ >= .05.

    >>> out_of_reach([7, 7, 7, 7], sides=2), out_of_reach([8, 8, 8, 8], sides=2)
    ([True, True, True, True], [False, False, False, False])
    """
    return [p >= LEVEL for p in holm([smallest_p(n, sides) for n in pairs])]


def of_difference(difference: float, p_holm: float, expect: Expected) -> Verdict:
    """Verdict of a contrast with a direction; `differ` has none, so any difference supports it."""
    if p_holm >= LEVEL:
        return "inconclusive"
    found = "higher" if difference > 0 else "lower"
    return "supported" if expect in (found, "differ") else "contradicted"


def of_equivalence(p_holm: float, p_beyond_holm: float) -> Verdict:
    """Verdict of a claim of no difference; not rejecting a difference is no support for it."""
    if p_holm < LEVEL:
        return "equivalent"
    return "contradicted" if p_beyond_holm < LEVEL else "inconclusive"
