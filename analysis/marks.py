"""What must be seen on an output that is not a finished study, or not of one code."""

from analysis import codes
from analysis.study import Study
from analysis.tidy import Collected

SMOKE = "smoke, not evidence"


def of(study: Study, collected: Collected) -> list[str]:
    """The marks of an experiment's outputs; none for a finished study."""
    return [*([] if study.evidence else [SMOKE]), *of_results(collected)]


def of_results(collected: Collected) -> list[str]:
    """The marks that an experiment has at any scale."""
    return [*([partial(collected.runs)] if collected.partial else []), *codes.mark(collected.codes)]


def partial(runs: dict[str, int]) -> str:
    """The mark of results that are not complete, from the number of runs by state."""
    ended = runs["finished"] + runs["diverged"]
    return f"partial: {ended} of {sum(runs.values())} runs measured, no verdicts"
