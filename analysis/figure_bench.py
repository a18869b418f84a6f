"""The benchmark's figures from its JSON file: python -m analysis.figure_bench FILE FOLDER."""

import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from analysis import style
from mlm.bench import known
from mlm.bench_peers import OURS
from mlm.errors import InputError
from mlm.refusal import refusing


def throughput(shapes: dict[str, Any]) -> Figure:
    """Tokens a second of every contestant by shape, median and range over rounds."""
    figure = Figure(figsize=(style.WIDTH, 0.75 + 1.1 * len(shapes)))
    panels = figure.subplots(len(shapes), 1, squeeze=False)[:, 0]
    figure.subplots_adjust(left=0.15, right=0.86, bottom=0.5 / figure.get_figheight(), hspace=0.75, top=0.92)
    for axes, (name, said) in zip(panels, shapes.items(), strict=True):
        for place, (contestant, one) in enumerate(said["throughput"].items()):
            colour = style.line(2)[0] if contestant == OURS else style.FAINT
            axes.barh(place, one["tokens_per_second"] / 1e3, height=0.62, color=colour)
            low, high = min(one["rounds"]) / 1e3, max(one["rounds"]) / 1e3
            axes.plot([low, high], [place, place], color=style.INK, linewidth=1.0)
            spread = said["spread"].get(contestant)
            told = f"{one['tokens_per_second'] / 1e3:.1f} k" + (
                f" ({spread['median']:.1f} ×)" if spread else ""
            )
            axes.annotate(
                told, (high, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7.5
            )
        axes.set_yticks(range(len(said["throughput"])), list(said["throughput"]))
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
        axes.set_title(name, color=style.INK)
    panels[-1].set_xlabel("thousand tokens a second on one core (× : ours by its)")
    return figure


def quality(said: dict[str, Any]) -> Figure:
    """Held-out loss over seconds of CPU; every seed of ours, a line for each peer."""
    figure = Figure(figsize=(style.WIDTH, 3.5))
    axes = figure.add_axes((0.085, 0.155, 0.715, 0.775))
    ends = []
    for index, (name, one) in enumerate(said["contestants"].items()):
        colour, dash, _ = style.line(index)
        for curve in one["curves"]:
            there = [point for point in curve if point[0] > 0]
            seconds, losses = [point[0] for point in there], [point[2] for point in there]
            axes.plot(seconds, losses, color=colour, linestyle=dash, zorder=4 if name == OURS else 3)
        ends.append((seconds[-1], losses[-1], name, colour))
    for level in said["levels"]:
        axes.axhline(level, color=style.MUTED, linewidth=0.8, zorder=1)
    axes.set_xscale("log")
    style.logarithmic(axes.xaxis)
    axes.grid(axis="y")
    axes.set_xlabel("seconds of CPU on one core")
    axes.set_title("Held-out loss with every target shown as [MASK] (nats)", color=style.INK)
    low, high = axes.get_ylim()
    places = style.spread([loss for _, loss, _, _ in ends], 0.05 * (high - low), low, high)
    for (_, _, name, colour), place in zip(ends, places, strict=True):
        beside = axes.get_yaxis_transform()
        axes.text(1.02, place, name, transform=beside, color=colour, fontsize=7.5, va="center")
    return figure


def write(path: Path, folder: Path) -> None:
    """Draw what the file has into `bench` and `bench-quality`, each as SVG, PDF and PNG."""
    if not path.exists():
        raise InputError(f"{path}: no such file; make it with `python -m mlm bench --json {path}`")
    content = known(path)
    with style.applied():
        if content["shapes"]:
            style.save(throughput(content["shapes"]), folder, "bench")
        if "quality" in content:
            style.save(quality(content["quality"]), folder, "bench-quality")


if __name__ == "__main__":
    with refusing():
        if len(sys.argv) != 3:
            raise InputError("give the benchmark's JSON file and a folder for the figures, and no more")
        write(Path(sys.argv[1]), Path(sys.argv[2]))
