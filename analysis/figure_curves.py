"""Learning curves: held-out loss on the common yardstick over training tokens, by arm."""

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis import labels, style, summary, tidy
from analysis.study import Experiment

MEASURE = tidy.YARDSTICK


def draw(experiment: Experiment, collected: tidy.Collected) -> Figure:
    """Mean over seeds and pointwise 95 % t interval, for every arm that has values."""
    figure = Figure(figsize=(style.WIDTH, 3.5))
    axes = figure.add_axes((0.085, 0.155, 0.755, 0.775))
    c = collected.curves
    rows = c[(c["measure"] == MEASURE) & c["value"].notna()]
    ends, last, lost = [], 0.0, []
    for index, arm in enumerate(experiment.arms):
        colour, dash, _ = style.line(index)
        points = []
        gone = collected.diverged(arm)
        if gone:
            lost.append(f"{labels.arm(arm)}: {len(gone)}")
        # A run that diverged would bend the mean where it drops out.
        kept = rows[(rows["arm"] == arm) & ~rows["seed"].isin(gone)]
        for tokens, group in kept.groupby("tokens", sort=True):
            found = summary.estimate(group["value"].to_numpy(dtype=float))
            if found is not None:
                points.append((float(str(tokens)) / 1e6, found))
        if not points:
            continue
        x = [at for at, _ in points]
        front = 4 if arm == experiment.baseline else 3
        axes.plot(x, [e.mean for _, e in points], color=colour, linestyle=dash, zorder=front)
        banded = [(at, e) for at, e in points if e.n > 1]
        axes.fill_between(
            [at for at, _ in banded], [e.low for _, e in banded], [e.high for _, e in banded],
            color=colour, alpha=0.18, linewidth=0, zorder=2,
        )  # fmt: skip
        ends.append((x[-1], points[-1][1].mean, labels.arm(arm), colour))
        last = max(last, x[-1])
    axes.grid(axis="y")
    axes.set_xlim(0, last * 1.005 or 1)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel("training tokens (millions)")
    axes.set_title("Held-out loss with every target shown as [MASK] (nats)", color=style.INK)
    style.label_ends(axes, ends)
    if lost:
        figure.text(
            0.012, 0.012, f"Runs that diverged, not drawn: {'; '.join(lost)}", fontsize=6.5, color=style.MUTED
        )
    return figure
