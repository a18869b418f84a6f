"""The tables that only a report has: contrasts in full, what sets the arms apart, the split asked for."""

from collections.abc import Iterable, Sequence

from analysis import labels, report_origin, setup
from analysis.contrasts import Result
from analysis.printed import DASH, Panel
from analysis.study import Study
from mlm import measures
from mlm.experiment import MOST_SEEDS
from mlm.history import Row

POWER = (
    " Detectable: the smallest difference (of an equivalence, margin) that so many pairs with this spread show "
    "four times in five, where Holm's correction is strictest; seeds needed: those that show the difference "
    "seen (the margin) as often."
)

TWO_LEVEL = "over examples too"
"""The column of intervals over seeds and evaluation examples."""


def contrasts(
    results: Sequence[Result], withdrawn: Sequence[Row] = (), *, examples: bool = True, power: bool = True
) -> Panel:
    """Every stated contrast: difference, interval, pairs, p values, verdict.

    Args:
        withdrawn: contrasts that were stated at first, and are no longer; the caption tells of them.
        examples: whether intervals over evaluation examples have a column, where there are some.
        power: adds what so many pairs can show, for which a page of paper has no room.
    """
    several = len({result.measure for result in results}) > 1
    shown = [result for result in results if examples and result.examples]
    of = "" if several else f" in {labels.measure(results[0].measure)}" if results else ""
    return Panel(
        "contrasts",
        f"Differences between arms{of}, paired by seed: mean, 95 % interval (exact sign-flip test, "
        "unadjusted), number of pairs, p, and p after Holm's correction within the family. Equivalences "
        "have two one-sided tests against their margin; a contradicted one has the p of a difference beyond "
        f"it.{_two_level(shown)}"
        f"{restricted(results)}{stated(results, withdrawn)}{POWER if power else ''}",
        (
            "contrast",
            *(("measure",) if several else ()),
            "family",
            "stated",
            "difference",
            "95 % interval",
            *((TWO_LEVEL,) if shown else ()),
            "n",
            "p",
            "Holm p",
            *(("detectable", "seeds needed") if power else ()),
            "verdict",
        ),
        tuple(_row(result, several, bool(shown), power) for result in results),
    )


def _two_level(results: Sequence[Result]) -> str:
    if not results:
        return ""
    return " Over examples too: 95 % interval for which seeds and held-out examples are drawn anew."


def stated(results: Iterable[Result], withdrawn: Iterable[Row] = ()) -> str:
    """What a caption says of when contrasts were stated; nothing where that was before the runs, of all."""
    results = list(results)
    found = {result.stated: result.stated_note for result in reversed(results)}
    words = ""
    if "post hoc" in found:
        words += " Post hoc: added or changed when there were results already."
    if "not known" in found:
        words += f" Whether all were stated before the runs is not known: {found['not known']}."
    if any(result.seeds_added for result in results):
        words += " Added: pairs of seeds that were asked for when there were results already."
    if rows := "; ".join(map(_was_stated, withdrawn)):
        words += f" Stated at first, and withdrawn or changed when there were results already: {rows}."
    return words


def _was_stated(row: Row) -> str:
    within = f"within ±{labels.number(row.margin, None)}" if row.margin else f"expected: {row.expect}"
    of = f"{labels.arm(row.arm)} − {labels.arm(row.against)} in {labels.measure(row.measure)}"
    return f"{of} ({row.family}, {within})"


def restricted(results: Iterable[Result]) -> str:
    """What a caption says of contrasts within the first tokens, where there are some."""
    if all(result.up_to_tokens is None for result in results):
        return ""
    return (
        " Within the first N tokens: not every run came down to the loss, so what is compared is the mean up "
        "to N, by which a run that had not counts as N."
    )


def _row(result: Result, several: bool, two: bool, power: bool) -> tuple[str, ...]:
    digits = result.digits
    ends = [labels.number(end, digits) for end in (result.low, result.high)]
    both = [labels.number(end, digits) for end in (result.two_level_low, result.two_level_high)]
    return (
        result.words,
        *((labels.measure(result.measure),) if several else ()),
        result.family,
        f"within ±{labels.number(result.margin, None)}" if result.margin else str(result.expect),
        labels.number(result.difference, digits, signed=True),
        f"{ends[0]} to {ends[1]}" if result.bounded else DASH,
        *((f"{both[0]} to {both[1]}" if result.examples else DASH,) if two else ()),
        result.pairs,
        *(DASH if p is None else labels.p_value(p).removeprefix("= ") for p in result.tested),
        *((labels.number(result.detectable, digits), _seeds(result)) if power else ()),
        result.verdict,
    )


def _seeds(result: Result) -> str:
    if not result.spreads:
        return DASH
    return f"> {MOST_SEEDS}" if result.seeds_needed is None else str(result.seeds_needed)


def differences(study: Study, name: str) -> Panel:
    """The settings in which the arms differ; all others are shared."""
    arms = setup.differing(study, name)
    keys = tuple(dict.fromkeys(key for mine in arms.values() for key in mine))
    rows = tuple(
        (labels.arm(arm), *(report_origin.setting(mine[key]) if key in mine else DASH for key in keys))
        for arm, mine in arms.items()
    )
    return Panel(
        "differences", "The settings in which the arms differ. All others are shared.", ("arm", *keys), rows
    )


def splits(study: Study, name: str, drawn: Panel) -> Panel:
    """The corruption that each arm asked for beside what was drawn.

    Args:
        drawn: the panel `realised` of `panels.panels`.
    """
    rows = []
    for run, (label, n, rate, *shares, predicted) in zip(
        setup.planned(study, name).values(), drawn.rows, strict=True
    ):
        asked, split = measures.corruption(run)
        pairs = [_asked(split[kind], share) for kind, share in zip(measures.KINDS, shares, strict=True)]
        shown = pairs if run.corrupts else shares
        rows.append((label, n, _asked(asked, rate), *shown, predicted))
    caption = f"Asked for, over the whole run → drawn. {drawn.caption}"
    return Panel("splits", caption, drawn.columns, tuple(rows))


def _asked(share: float, found: str) -> str:
    return f"{labels.number(round(100 * share, 3), None)} → {found}"
