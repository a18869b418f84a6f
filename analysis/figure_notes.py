"""Small print of a figure: of how many runs it is, and which could not be drawn."""

from collections.abc import Iterable

from matplotlib.figure import Figure

from analysis import labels, style, tidy


def runs(collected: tidy.Collected, arms: Iterable[str]) -> list[str]:
    """How many runs of each arm finished, and a note on those that diverged, where there are any."""
    arms = list(arms)
    ended = sorted({len(collected.finished(arm)) for arm in arms})
    counted = [f"n = {' to '.join(map(str, dict.fromkeys((ended[0], ended[-1]))))} seeds"] if ended else []
    gone = [f"{labels.arm(arm)}: {len(seeds)}" for arm in arms if (seeds := collected.diverged(arm))]
    return counted + ([f"Runs that diverged, not drawn: {', '.join(gone)}"] if gone else [])


def write(figure: Figure, notes: list[str]) -> None:
    """Below everything else, at the left."""
    if notes:
        figure.text(0.012, 0.012, ". ".join(notes), fontsize=6.5, color=style.MUTED)
