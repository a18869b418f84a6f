"""What must be seen on an output that is not a finished study."""

from analysis.study import Study
from analysis.tidy import Collected

SMOKE = "smoke, not evidence"


def of(study: Study, collected: Collected) -> list[str]:
    """The marks of an experiment's outputs; none for a finished study."""
    found = [] if study.evidence else [SMOKE]
    if collected.partial:
        found.append(partial(collected.runs))
    return found


def partial(runs: dict[str, int]) -> str:
    """The mark of results that are not complete, from the number of runs by state."""
    ended = runs["finished"] + runs["diverged"]
    return f"partial: {ended} of {sum(runs.values())} runs measured, no verdicts"
