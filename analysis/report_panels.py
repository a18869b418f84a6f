"""The panels of a Weights & Biases report: curves, final measures, run comparer, and what the analysis drew.

They show runs by their digests, so that no earlier run of the same name slips in.
"""

from collections.abc import Sequence
from typing import Any, Final

import wandb_workspaces.expr as runs_where
import wandb_workspaces.reports.v2.interface as wr  # what `reports.v2` exports, with its types

from analysis import labels, tidy
from analysis.report_content import Content
from mlm import identity

WIDTH = 24
"""Columns of a panel grid."""
BAND: Final = "stddev"
CURVES = (
    "validation.yardstick.loss_nats",
    "validation.yardstick.accuracy",
    "validation.own.loss_nats",
    "train.loss_nats",
    "train.gradient_norm",
    "train.learning_rate",
)
"""Measures over tokens that have a panel, where the runs have them."""
TABLES = ("contrasts", "realised_split", "fills")
"""Tables of the experiment's analysis run."""


def blocks(content: Content) -> list[Any]:
    """Sections of panels, with a word on each."""
    runs = [run for arm in content.arms for run in arm.runs]
    drawn = [runs_where.Metric("ID").isin([run.digest for run in runs if run.state != "diverged"])]
    first = min(run.seed for run in runs)
    one_each = [runs_where.Metric("ID").isin([run.digest for run in runs if run.seed == first])]
    analysis = [
        runs_where.Metric("JobType") == "analysis",
        runs_where.Metric("Name") == f"{content.scale}/{content.experiment}",
    ]
    lost = sum(run.state == "diverged" for run in runs)
    return [
        wr.H1("Learning curves"),
        wr.P(
            "Over training tokens: mean of an arm's seeds, with a band of one standard deviation. The common "
            "yardstick compares across arms; losses under each arm's own corruption "
            f"do not.{f' Runs that diverged, not drawn: {lost}.' if lost else ''}"
        ),
        _grid(content, "runs by arm", drawn, [_curve(m) for m in CURVES if m in content.curves], by_arm=True),
        wr.H1("At the end of training"),
        wr.P("Mean of an arm's seeds, and one standard deviation. Arms compare by their paired differences."),
        _grid(content, "finished runs by arm", drawn, _final(content.primary_measure), by_arm=True),
        wr.H1("Run comparer"),
        wr.P("One run of each arm: what differs in its configuration, and what came of it."),
        _grid(
            content,
            f"seed {first} of each arm",
            one_each,
            [wr.RunComparer(diff_only="split", layout=wr.Layout(w=WIDTH, h=14))],
        ),
        wr.H1("Figures, tables and fills"),
        _grid(content, "analysis", analysis, _analysed(content)),
    ]


def _key(measure: str) -> str:
    """A measure as the runs log it."""
    return measure.replace(".", "/")


def _curve(measure: str) -> wr.LinePlot:
    return wr.LinePlot(
        title=labels.measure(measure),
        x="tokens",
        y=[_key(measure)],
        title_x="training tokens",
        groupby_aggfunc="mean",
        groupby_rangefunc=BAND,
        smoothing_type="none",
        legend_position="south",
        layout=wr.Layout(w=WIDTH // 2, h=9),
    )


def _final(primary: str) -> list[Any]:
    loss = tidy.TEST_YARDSTICK
    bars = [
        wr.BarPlot(
            title=labels.measure(measure),
            metrics=[f"final/{_key(measure)}"],
            groupby_aggfunc="mean",
            groupby_rangefunc=BAND,
            layout=wr.Layout(w=WIDTH // 2, h=9),
        )
        for measure in dict.fromkeys((primary, loss))
    ]
    scatter = wr.ScatterPlot(
        title=f"{labels.measure(primary)} against {labels.measure(loss)}",
        x=wr.SummaryMetric(f"final/{_key(loss)}"),
        y=wr.SummaryMetric(f"final/{_key(primary)}"),
        layout=wr.Layout(w=WIDTH, h=9),
    )
    return [*bars, scatter]


def _analysed(content: Content) -> list[Any]:
    figures = wr.MediaBrowser(
        title="figures",
        media_keys=[f"figures/{name}" for name in content.figures],
        num_columns=1,
        layout=wr.Layout(w=WIDTH, h=16),
    )
    tables = [wr.WeavePanelSummaryTable(table_name=name, layout=wr.Layout(w=WIDTH, h=10)) for name in TABLES]
    return [figures, *tables]


def _grid(
    content: Content, name: str, where: list[Any], panels: Sequence[Any], *, by_arm: bool = False
) -> wr.PanelGrid:
    """Panels over the runs that all filters leave, each arm a group in the colour of the figures.

    A run set that names no entity is of the report's own project, and asks no server.
    """
    key = f"arms.{content.experiment}"
    runset = wr.Runset(name=name, filters=runs_where.And(*where), groupby=[f"config.{key}"] if by_arm else [])
    runset._id = _id(content, name)
    for place, panel in enumerate(panels):
        panel._id = _id(content, f"{name} {place}")
    colours: dict[str | wr.RunsetGroup, str | dict[Any, Any]] = {
        wr.RunsetGroup(name, (wr.RunsetGroupKey(wr.Config(key), arm.name),)): arm.colour
        for arm in content.arms
        if by_arm
    }
    return wr.PanelGrid(runsets=[runset], panels=list(panels), custom_run_colors=colours)


def _id(content: Content, what: str) -> str:
    return identity.digest([content.scale, content.experiment, what])[:12]
