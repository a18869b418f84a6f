"""Contrasts in words, whichever way they fall."""

from collections.abc import Sequence

from analysis import labels, published, verdicts
from analysis.beforehand import When
from analysis.contrasts import Result
from analysis.manuscript_markdown import listed
from analysis.quote import Quoter
from mlm.experiment import MOST_SEEDS

EXPECTED = {
    "higher": "expected higher",
    "lower": "expected lower",
    "differ": "a difference expected, in no direction",
}
AS_STATED: dict[When, str] = {
    "beforehand": "as stated beforehand",
    "post hoc": "as stated when there were results already",
    "not known": "as stated",
}
AS_WAS_STATED: dict[When, str] = {
    "beforehand": "as was stated beforehand",
    "post hoc": "as was stated when there were results already (post hoc)",
    "not known": "as was stated",
}


def verdict(result: Result, quote: Quoter, family_size: int) -> str:
    """One contrast with everything that belongs to it: difference, interval, effect size, n, p, verdict.

    Args:
        family_size: number of contrasts that Holm's correction runs over.
    """
    name = f"{labels.arm(result.arm)} against {labels.arm(result.against)}"
    stated = (
        f"claimed equal within ±{quote.num(f'{result.id}.margin')}"
        if result.margin
        else EXPECTED[result.expect or "differ"]
    )
    stated += ", post hoc" if result.stated == "post hoc" else ""
    head = f"**{name}** ({stated}): "
    if result.n == 0:
        why = "in no pair is it known what both runs took" if result.untested else "no pair of runs is complete"
        nothing = f"{why}, so there is nothing to compare"
        return f"{head}{nothing}{_lost(result)} --- *{result.verdict}*."
    key, n = f"{result.id}.difference", quote.num(f"{result.id}.n")
    numbers = (
        f"difference in {labels.measure(result.measure)} {quote.num(key, signed=True)} "
        f"({_interval(result, quote)}{_size(result, quote)}n = {n} pairs{_added(result)})"
    )
    told = head + numbers + _tested(result, quote) + _meaning(result, quote, family_size)
    return f"{told}{_lost(result)}.{_could(result, quote)}"


def _size(result: Result, quote: Quoter) -> str:
    if result.effect_size is None or result.n < 3 or result.untested:  # two values' spread is no scale
        return ""
    return f"{quote.num(f'{result.id}.effect_size')} standard deviations of the paired difference, "


def _interval(result: Result, quote: Quoter) -> str:
    if result.low is None:
        return ""
    found = quote.ci(f"{result.id}.difference")
    if result.examples:
        both = quote.ci(f"{result.id}.two_level").removeprefix("95 % interval ")
        found += f", over seeds and held-out examples {both}"
    return f"{found}, "


def _added(result: Result) -> str:
    added = len(result.seeds_added)
    return f", {count_word(added)} of them added after a look" if added else ""


def _tested(result: Result, quote: Quoter) -> str:
    if result.p is None:
        return ""
    test, p = ("two one-sided tests, " if result.margin else ""), f"{result.id}.p"
    if result.beyond:
        test, p = "tested to be beyond the margin, ", f"{result.id}.p_beyond"
    adjusted = quote.p(f"{p}_holm").removeprefix("= ")
    return f", {test}p {quote.p(p)}, Holm-adjusted {adjusted}"


def _meaning(result: Result, quote: Quoter, family_size: int) -> str:
    arm, direction = labels.arm(result.arm), "higher" if (result.difference or 0) > 0 else "lower"
    if result.margin is not None:
        margin = quote.num(f"{result.id}.margin")
        meanings = {
            "equivalent": f"the difference is smaller than {margin} either way",
            "contradicted": f"the difference is larger than {margin}",
            "inconclusive": f"neither a difference within {margin} nor one beyond it is shown",
        }
    else:
        meanings = {
            "supported": f"{arm} is {direction}"
            + (f", {AS_STATED[result.stated]}" if result.expect != "differ" else ""),
            "contradicted": f"{arm} is {direction}, against the stated direction",
            "inconclusive": "the difference may lie on either side of zero"
            + (", corrected for its family, if not by itself" if (result.p or 1.0) < verdicts.LEVEL else ""),
        }
    pairs = f"with {quote.num(f'{result.id}.n')} pairs"
    pairs += f" in a family of {family_size}" if family_size > 1 else ""
    short = f"{pairs}, no outcome could reach the level"
    short = "what it took is not known of every run" if result.untested else short
    meanings["descriptive"] = f"{short}, so this describes and does not test"
    meanings["partial"] = "runs are missing, so no verdict is given"
    return f" --- *{result.verdict}*: {meanings[result.verdict]}"


def _could(result: Result, quote: Quoter) -> str:
    """What an inconclusive contrast could have shown: a sentence of its own."""
    if result.verdict != "inconclusive" or not result.spreads:
        return ""
    n, smallest = (quote.num(f"{result.id}.{key}") for key in ("n", "detectable"))
    if result.detectable is None:  # fewer pairs than the others of its family, whose first step it cannot pass
        what = "difference, however large" if result.margin is None else "margin, however wide"
        return f" At the first step of Holm's correction no {what}, could have passed with {n} pairs."
    could = f"{n} seeds with this spread could have detected a difference of {smallest}"
    if result.margin is not None:
        could = f"{n} seeds with this spread and no difference could have shown that it is within {smallest}"
    if result.seeds_needed is None:
        needed = f"more than {MOST_SEEDS}"
    else:
        needed = f"{quote.num(f'{result.id}.seeds_needed')} seeds"
    what = "the one seen" if result.margin is None else "the margin stated"
    return f" In four studies of five, {could}; {what} would take {needed}."


def _lost(result: Result) -> str:
    # A run that diverged is no missing value at random: the pairs left are those that went well.
    which = "pairs in which both costs are known" if result.untested else "complete pairs"
    pairs = f"; only {which} are compared" if result.n < result.planned else ""
    lost = f"{result.note}{pairs}" if result.note else ""
    later = f"post hoc: {result.stated_note}" if result.stated == "post hoc" else ""
    told = "; ".join(part for part in (lost, later) if part)
    return f" ({told})" if told else ""


def left_open(results: Sequence[Result], quote: Quoter) -> str:
    """What the inconclusive contrasts of a family could have shown; empty where there is none."""
    told = [
        f"{quote.num(f'{one.id}.detectable')} ({labels.arm(one.arm)} against {labels.arm(one.against)})"
        for one in results
        if one.verdict == "inconclusive" and one.spreads and one.detectable is not None
    ]
    what = "margins" if results and results[0].margin is not None else "differences"
    could = f" Those left open could have shown, in four studies of five, {what} of {', '.join(told)}."
    return could if told else ""


def headline(result: Result, quote: Quoter) -> str:
    """The primary contrast for the abstract."""
    arm, against = labels.arm(result.arm), labels.arm(result.against)
    if result.n == 0:
        known = "has two costs that are known" if result.untested else "is complete"
        return f"No pair of {arm} and {against} runs {known}, so the primary contrast cannot be told."
    moved = "raises" if (result.difference or 0) > 0 else "lowers" if result.difference else "does not move"
    key = f"{result.id}.difference"
    change = f"Training with {arm} instead of {against} {moved} mean {labels.measure(result.measure)}"
    interval = "" if result.low is None else f", {quote.ci(key)}"
    change += f" (paired difference {quote.num(key, signed=True)}{interval}"
    p, n = quote.p(f"{result.id}.p"), quote.num(f"{result.id}.n")
    few = f"pairs {labels.known(result.measure)} ({result.note})" if result.untested else "so few seeds"
    tail = {
        "supported": f"p {p}), {AS_WAS_STATED[result.stated]}.",
        "contradicted": f"p {p}), against the stated direction.",
        "inconclusive": f"p {p}), which {n} seeds cannot tell from no difference.",
        "descriptive": f"n = {n}); {few} describe and cannot test.",
        "partial": "on the runs made so far); runs are missing, and no verdict is given.",
    }
    return f"{change}; {tail[result.verdict]}"


def tally(results: Sequence[Result]) -> str:
    """How the verdicts of a family fell, `three are supported and one is inconclusive`, `all are supported`."""
    verdicts = [result.verdict for result in results]
    if len(verdicts) > 1 and len(set(verdicts)) == 1:
        return _all_are(verdicts[0], len(verdicts))
    parts = [_are(kind, verdicts.count(kind)) for kind in dict.fromkeys(verdicts)]
    return listed(parts, "and") or "none is stated"


SHAPES: dict[published.Shape, str] = {
    "reproduced": "*Reproduced*, that is tested here and found with the published sign",
    "reversed": "*Reversed*, tested and found with the other sign",
    "open": "*Open*, stated as a contrast and not decided",
}


def shapes(found: Sequence[published.Pair]) -> str:
    """Which published differences are reproduced here, which are not, and which are only described."""
    both = [pair for pair in found if pair.comparable]
    if not both:
        return "No published difference has a counterpart here yet."
    same = sum(pair.same_sign for pair in both)
    parts = [
        f"Of the {count_word(len(found))} published differences {count_word(len(both))} can be set beside "
        f"ours, and {count_word(same)} of these {'has' if same == 1 else 'have'} the same sign here."
    ]
    for shape, words in SHAPES.items():
        if rows := [labels.arm(pair.row) for pair in found if pair.shape == shape]:
            parts.append(f"{words}: {'; '.join(rows)}.")
    if described := [pair for pair in both if pair.shape == "described"]:
        who = "All" if len(described) == len(both) else "The rest"
        parts.append(
            f"{who} are described and not tested, as no contrast stated them beforehand: "
            "a shared sign is no test."
        )
    return " ".join(parts)


def by_verdict(told: Sequence[tuple[str, str]]) -> str:
    """Which primary contrasts fell which way, `two are supported (*a*, *b*) and one is inconclusive (*c*)`.

    Args:
        told: (experiment, verdict) of each.
    """
    parts = []
    kinds = dict.fromkeys(verdict for _, verdict in told)
    if len(told) > 1 and len(kinds) == 1:
        return _all_are(told[0][1], len(told))
    for kind in kinds:
        mine = [f"*{name}*" for name, verdict in told if verdict == kind]
        parts.append(f"{_are(kind, len(mine))} ({', '.join(mine)})")
    return listed(parts, "and")


def together(held: int, n: int) -> str:
    """How many of n primary contrasts have a verdict that holds over all of them.

    >>> together(0, 12), together(4, 4), together(1, 4), together(2, 2)
    ('none of the twelve holds', 'all four hold', 'one of the four holds', 'both hold')
    """
    if held == n:
        return "both hold" if n == 2 else f"all {count_word(n)} hold"
    if not held:
        return "neither holds" if n == 2 else f"none of the {count_word(n)} holds"
    return f"{count_word(held)} of the {count_word(n)} {'holds' if held == 1 else 'hold'}"


def _all_are(kind: str, n: int) -> str:
    return f"{'both' if n == 2 else 'all'} {'have no verdict yet' if kind == 'partial' else f'are {kind}'}"


def _are(kind: str, n: int) -> str:
    if kind == "partial":
        return f"{count_word(n)} {'has' if n == 1 else 'have'} no verdict yet"
    return f"{count_word(n)} {'is' if n == 1 else 'are'} {kind}"


def count_word(n: int) -> str:
    """Small counts are written out.

    >>> count_word(3), count_word(14)
    ('three', '14')
    """
    words = (
        "none",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    )
    return words[n] if n < len(words) else str(n)
