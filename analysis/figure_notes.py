"""Small print of a figure: what could not be drawn, so that no run goes missing unsaid."""

from collections.abc import Iterable

from matplotlib.figure import Figure

from analysis import labels, style, tidy


def lost(collected: tidy.Collected, arms: Iterable[str]) -> list[str]:
    """A note on the runs of the arms that diverged, where there are any."""
    gone = [f"{labels.arm(arm)}: {len(seeds)}" for arm in arms if (seeds := collected.diverged(arm))]
    return [f"Runs that diverged, not drawn: {', '.join(gone)}"] if gone else []


def write(figure: Figure, notes: list[str]) -> None:
    """Below everything else, at the left."""
    if notes:
        figure.text(0.012, 0.012, ". ".join(notes), fontsize=6.5, color=style.MUTED)
