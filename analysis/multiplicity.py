"""Several tests of one family (Holm 1979, Scandinavian Journal of Statistics 6, 65-70)."""

from collections.abc import Sequence


def holm_of_stated(p: Sequence[float | None]) -> list[float | None]:
    """As `holm`; one that was not tested was stated all the same, and keeps its place among the others.

    >>> holm_of_stated([0.01, None])
    [0.02, None]
    """
    adjusted = holm([1.0 if one is None else one for one in p])
    return [None if one is None else corrected for one, corrected in zip(p, adjusted, strict=True)]


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p values, in the order given; each may be compared with the family's level.

    The i-th smallest of m is multiplied by m - i + 1, and none may fall below a smaller one's. The
    family-wise error is controlled under any dependence, which arms that share a baseline have.

    >>> [round(x, 3) for x in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = highest
    return adjusted
