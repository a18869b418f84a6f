"""Layer-wise probe: how well frozen features tell parts of speech, by layer and with all layers together."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import labels, references, style, summary, tidy
from analysis.study import Experiment


def draw(experiment: Experiment, collected: tidy.Collected) -> Figure:
    """Mean over seeds with 95 % t interval; the untrained encoder and the lookups as references."""
    if not collected.layers() and not collected.results["measure"].eq("probe.accuracy").any():
        figure = Figure(figsize=(style.WIDTH, 0.5))
        words = "Part of speech is not probed in this experiment."
        figure.text(0.012, 0.6, words, fontsize=8, color=style.MUTED, va="center")
        return figure
    figure = Figure(figsize=(style.WIDTH, 3.7))
    beside = [*map(labels.arm, experiment.arms), "lookup by first piece"]
    axes = figure.add_axes((0.075, 0.075, 0.91 - style.room(beside), 0.855))
    layers = collected.layers()
    names = [*(f"probe.layer_{layer}.accuracy" for layer in layers), "probe.accuracy"]
    places = [*map(float, range(len(layers))), len(layers) + 0.35]  # all together stands apart: it is no layer
    ends = []
    step = 0.05
    for index, arm in enumerate(experiment.arms):
        found = [summary.estimate(collected.array(arm, name)) for name in names]
        aside = (index - (len(experiment.arms) - 1) / 2) * step
        ends += _series(axes, places, found, aside, style.line(index), labels.arm(arm))
    untrained = [references.untrained(collected, f"untrained.{name}") for name in names]
    for arm in dict.fromkeys(arm for estimates in untrained for arm in estimates):
        text = f"untrained, {labels.arm(arm)}" if arm else "untrained"
        ends += _series(axes, places, [e.get(arm) for e in untrained], 0.0, style.REFERENCE, text)
    right = places[-1] + 0.32
    for by, text in (("word", "lookup by word"), ("first_piece", "lookup by first piece")):
        value = references.fixed(collected, f"reference.probe.lookup.{by}.accuracy").get("")
        if value is not None:  # one for all arms
            axes.axhline(value, color=style.MUTED, linewidth=0.8, zorder=1)
            ends.append((right, value, text, style.MUTED))
    axes.axvline(len(layers) - 0.325, color=style.FAINT, linewidth=0.8)
    axes.set_xlim(-0.32, right)
    axes.margins(y=0.06)
    titles = ["embedding", *(f"layer {layer}" for layer in layers[1:]), "all layers"]
    axes.set_xticks(places, titles[: len(places)] if layers else ["all layers"])
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y")
    axes.set_title("Part-of-speech accuracy from frozen features", color=style.INK)
    style.label_ends(axes, ends)
    return figure


def _series(
    axes: Axes,
    places: Sequence[float],
    found: Sequence[summary.Estimate | None],
    aside: float,
    look: style.Look,
    text: str,
) -> list[tuple[float, float, str, str]]:
    """Draw one arm; the place of its label, or nothing where it has no value for all layers."""
    colour, dash, marker = look
    there = [(at, e) for at, e in zip(places, found, strict=True) if e is not None]
    layers = [(at + aside, e.mean) for at, e in there if at != places[-1]]
    axes.plot(
        *zip(*layers, strict=True), color=colour, linestyle=dash, linewidth=1.1, zorder=3
    ) if layers else None
    for at, e in there:
        if e.n > 1:
            axes.plot([at + aside] * 2, [e.low, e.high], color=colour, linewidth=1.0, zorder=3)
        axes.plot([at + aside], [e.mean], marker=marker, markersize=4.5, color=colour, linestyle="", zorder=4)
    return [(at + aside + 0.04, e.mean, text, colour) for at, e in there if at == places[-1]]
