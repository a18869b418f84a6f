"""The printed tables of what training drew, and of what it took."""

from collections.abc import Iterator

from analysis import labels, reached, references
from analysis.printed import DASH, INTERVAL, Panel, Table
from mlm import measures

TERA = 1e12
OF_TERA = "a teraFLOP is a million million operations of the plain model"


def panels(table: Table) -> Iterator[Panel]:
    """Those that the experiment has, in reading order; what was drawn comes last."""
    if levels := [name.removesuffix(".censored") for name in table.names if name.endswith(".censored")]:
        yield _reach(table, levels)
    tokens, flops = (references.training(table.collected, f"training.{what}") for what in ("tokens", "flops"))
    if len(tokens) > 1 or len(flops) > 1:
        yield _budget(table, tokens, flops)
    yield _realised(table)


def _reach(table: Table, levels: list[str]) -> Panel:
    timed = table.times is not None
    columns: list[str] = []
    for level in levels:
        nats = labels.level(level.removeprefix("reach."))
        columns += [f"{nats}: tokens", "teraFLOPs", *(["seconds"] if timed else []), "reached"]
    rows = []
    for arm in table.arms:
        cells: list[str] = []
        for level in levels:
            cells += [table.cell(arm, f"{level}.tokens"), table.cell(arm, f"{level}.flops", TERA, 3)]
            told = reached.of(table.collected, arm, f"{level}.tokens")
            seconds = table.seconds(arm, f"{level}.seconds")
            cells += [DASH] * len(seconds) if told is not None and told.censored else seconds
            cells.append(str(told))
        rows.append((*table.head(arm), *cells))
    return Panel(
        "reach",
        "What it took to come down to a held-out loss, before the decay of the learning rate "
        f"({INTERVAL}; {OF_TERA}). Reached: how many of the finished runs did. Where not all are seen to come "
        "there, a mean over those that do would be too low: tokens are the Kaplan-Meier median, which there is "
        "where half of them do, and the rest is a dash; so it is where a run was at the loss when it was first "
        "evaluated. Contrasts of tokens then count up to where all runs were looked at.",
        (*table.heading, *columns),
        tuple(rows),
    )


def _budget(table: Table, tokens: dict[str, int], flops: dict[str, int]) -> Panel:
    timed = table.times is not None
    base = flops.get(table.baseline, flops.get(""))
    rows = []
    for arm in table.arms:
        read, spent = tokens.get(arm, tokens.get("")), flops.get(arm, flops.get(""))
        there = bool(table.collected.finished(arm)) and spent is not None
        cells = [
            labels.number(read, 0) if there else DASH,
            labels.number(spent / TERA, 3) if there and spent else DASH,
            labels.number(100 * spent / base, 2) if there and spent and base else DASH,
            *table.seconds(arm, "training_seconds"),
        ]
        rows.append((*table.head(arm), *cells))
    seconds = f" Seconds are of training alone, as long as it took here ({INTERVAL})." if timed else ""
    return Panel(
        "budget",
        f"What a finished run of each arm took: tokens read, operations ({OF_TERA}; what an attention window "
        f"saves is not subtracted), and these in per cent of {labels.arm(table.baseline)}'s.{seconds}",
        (*table.heading, "tokens", "teraFLOPs", "of baseline %", *(["seconds"] if timed else [])),
        tuple(rows),
    )


def _realised(table: Table) -> Panel:
    rows = []
    for arm in table.arms:
        counts = {
            name: table.collected.array(arm, f"realised.{name}").sum()
            for name in ("eligible", "selected", *measures.KINDS, "predicted")
        }
        there = counts["selected"] > 0
        corrupted = there and table.planned[arm].corrupts
        shares = [
            labels.number(100 * counts[kind] / counts["selected"], 2) if corrupted else DASH
            for kind in measures.KINDS
        ]
        rate = labels.number(100 * counts["selected"] / counts["eligible"], 3) if there else DASH
        rows.append((*table.head(arm), rate, *shares, labels.number(counts["predicted"], 0)))
    untouched = ""
    if table.causal:
        untouched = " A causal arm selects every token and corrupts none."
    return Panel(
        "realised",
        "What was drawn over all finished runs of an arm: tokens selected in per cent of the ordinary tokens, "
        f"what stood in their place in per cent of the selected, and how many were predicted.{untouched}",
        (*table.heading, "rate %", "[MASK] %", "same %", "random %", "predicted"),
        tuple(rows),
    )
