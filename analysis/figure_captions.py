"""What stands below a figure: what it shows, and how it is read.

The latter lies in analysis/captions, for Snakemake's report has no more than that.
"""

from pathlib import Path

from analysis import labels, tidy
from analysis.study import Experiment
from mlm import figures

PLACE = Path(__file__).parent / "captions"


def of(experiment: Experiment) -> dict[str, str]:
    """Name of each figure of an experiment -> its caption, plain text; those of its own last."""
    fixed = {name: _read(name) for name in figures.EVERY}
    return fixed | {one.stem: f"{_shown(experiment, one)}{_read(one.kind)}" for one in experiment.figures}


def rates(experiment: Experiment) -> str:
    """Below the figure that trials of learning rates have."""
    return f"{labels.title(experiment.primary_measure)} by learning rate. {_read('rates')}"


def curves(experiment: Experiment) -> str:
    """The figure that shows the learning curves of all arms: `curves`, unless one of its own shows the same.

    Logarithmic axes do not: they leave out the moment before the first step.
    """
    for one in experiment.figures:
        whole = set(one.arms or experiment.arms) == set(experiment.arms)
        measure = one.measure or experiment.primary_measure
        if one.kind == "over" and one.x != "flops" and not one.log and whole and measure == tidy.YARDSTICK:
            return one.stem
    return "curves"


def _shown(experiment: Experiment, asked: figures.Figure) -> str:
    words = labels.title(asked.measure or experiment.primary_measure)
    match asked.kind:
        case "arms":
            return f"{words}, by arm. "
        case "dose":
            by = f", by {' and '.join(map(labels.key, asked.by))}" if asked.by else ""
            scale = " (logarithmic)" if asked.log else ""
            return f"{words} against {labels.key(str(asked.x))}{scale}{by}. "
        case "over":
            scale = " (logarithmic)" if asked.log else ""
            return f"{words} over training {'operations' if asked.x == 'flops' else 'tokens'}{scale}. "
        case "leaving":
            reached = labels.level(asked.level)
            return f"The plateau is left when the loss under a run's own corruption is {reached}. "
    return ""


def _read(name: str) -> str:
    return " ".join((PLACE / f"{name}.rst").read_text(encoding="utf-8").split())
