"""A stated contrast -> the pairs of runs that it compares, and what is to be said of the others.

A pair counts where both of its runs have the measure. Of tokens to reach a loss that not every run reaches,
what is compared is what was seen of all (`analysis.reached.restricted`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis import labels, reached, tidy
from analysis.signflip import TIE
from analysis.study import Contrast


class Pairs(NamedTuple):
    """What a contrast compares, by seed."""

    seeds: list[int]
    arm: NDArray[np.float64]
    """[pairs], as is `against`."""
    against: NDArray[np.float64]
    up_to_tokens: float | None
    """Where times are restricted: up to here they count; None: they are not."""
    untested: bool
    """Some run's cost of reaching a loss is not known, and the pairs that are left test nothing."""
    runs: tuple[str, ...]
    """Digests, the arm's first."""

    @property
    def size(self) -> float:
        """The largest value, by which differences are rounded."""
        return float(np.abs(np.append(self.arm, self.against)).max(initial=0.0))

    @property
    def differences(self) -> NDArray[np.float64]:
        """[pairs] arm minus against; what is rounding of the values is none."""
        apart = self.arm - self.against
        return np.where(np.abs(apart) <= TIE * self.size, 0.0, apart)

    @property
    def tested(self) -> NDArray[np.float64]:
        """The differences, none where they test nothing."""
        return self.differences[:0] if self.untested else self.differences


def of(contrast: Contrast, collected: tidy.Collected) -> Pairs:
    """What a contrast compares: all of its measure, or times restricted to where all runs were looked at."""
    arms = (contrast.arm, contrast.against)
    both = set.intersection(*(set(collected.finished(arm)) for arm in arms))
    cost = reached.counted(contrast.measure)
    told = [one for arm in arms if (one := reached.of(collected, arm, cost, both))]
    # Differences that come out too small are no evidence of equivalence.
    cut = None if contrast.margin else reached.restricted(collected, arms, contrast.measure, both)
    arm, against = cut.times if cut else (collected.values(a, contrast.measure) for a in arms)
    seeds = [int(seed) for seed in arm.index if seed in against.index]
    values, others = (one.loc[seeds].to_numpy(dtype=np.float64) for one in (arm, against))
    # Of runs that were past the loss at first, that it is not known what they took is no failure to come there.
    unknown = [one.censored if cost == contrast.measure else one.begun > 0 for one in told]
    untested = cut is None and any(unknown)
    there = reached.censoring(contrast.measure) or contrast.measure  # a censored run has no cost
    digests = [collected.digests(a, there) for a in arms]
    runs = tuple(by_seed[seed] for by_seed in digests for seed in seeds)
    return Pairs(seeds, values, others, cut.up_to_tokens if cut else None, untested, runs)


def note(contrast: Contrast, collected: tidy.Collected, compared: Pairs) -> str:
    """Which runs are missing from the pairs, and up to where times count."""
    parts = []
    for arm in (contrast.arm, contrast.against):
        if lost := collected.diverged(arm):
            parts.append(f"{labels.arm(arm)} diverged at {_seeds(lost)}")
        cost = reached.counted(contrast.measure)
        told = reached.of(collected, arm, cost) if compared.untested or cost == contrast.measure else None
        there = collected.values(arm, contrast.measure).index
        if told is not None:
            said = compared.untested and told.censored
            parts += [f"the loss is reached by {told} runs of {labels.arm(arm)}"] if said else []
        elif lost := [seed for seed in collected.finished(arm) if seed not in there]:
            parts.append(f"{labels.arm(arm)} has no value at {_seeds(lost)}")
    if (end := compared.up_to_tokens) is not None and compared.seeds:
        times = np.concatenate([compared.arm, compared.against])
        runs = f"{(times >= end).sum()} of {len(times)} runs"
        up_to = f"compared up to {labels.number(end, 0)} tokens"
        parts.append(f"{up_to}, before which {runs} do not come down to the loss")
    return "; ".join(parts)


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
