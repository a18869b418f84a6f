"""Tidy results -> the tables of an experiment: as CSV, as Markdown and as LaTeX.

A cell without a value stays a dash: an arm that never shows random tokens has no loss on them.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from analysis import labels, marks, summary, tidy
from analysis.study import Experiment, Study
from mlm import layout, measures
from mlm.files import write_atomically

DASH = "—"
COLUMNS = ("row", "kind", "measure", "mean", "low", "high", "sd", "n")
INTERVAL = "mean ± half the 95 % Student t interval over seeds"
LOOKUPS = {"first_piece": "lookup, first piece", "word": "lookup, whole word"}


@dataclass(frozen=True)
class Panel:
    """One printed table."""

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    references: tuple[tuple[str, ...], ...] = ()
    """Rows that are no arms, set apart by a rule."""


def panels(experiment: Experiment, collected: tidy.Collected) -> list[Panel]:
    """The printed tables of an experiment, in reading order."""
    arms = experiment.arms
    kinds = {"": "all"} | {f"{kind}.": labels.PLAIN[kind] for kind in measures.KINDS}
    found = [_features(arms, collected)]
    for quantity, words in (("loss_nats", "Loss in nats"), ("accuracy", "Accuracy")):
        names = [f"test.yardstick.{quantity}", *(f"test.own.{kind}{quantity}" for kind in kinds)]
        found.append(
            Panel(
                quantity.removesuffix("_nats"),
                f"{words} on the held-out test documents, on the common yardstick (15 %, all [MASK]) and under "
                "each arm's own corruption, by what stands at the target; a dash where an arm has no such "
                f"target ({INTERVAL}). Only the yardstick compares across arms.",
                (
                    "MASK/SAME/RND",
                    "n",
                    "yardstick",
                    "own",
                    *(f"own, {words}" for words in list(kinds.values())[1:]),
                ),
                tuple(
                    (*_head(arm, collected), *(_cell(collected, arm, name) for name in names)) for arm in arms
                ),
            )
        )
    found.append(_realised(arms, collected))
    return found


def _features(arms: tuple[str, ...], collected: tidy.Collected) -> Panel:
    layers = [f"probe.layer_{layer}" for layer in collected.layers()]
    names = ["probe.accuracy", "probe.ambiguous_accuracy", *(f"{layer}.accuracy" for layer in layers)]
    titles = [f"layer {layer}" if layer else "embedding" for layer in collected.layers()]
    blanks = (DASH,) * len(layers)
    untrained = [f"untrained.{name}" for name in names]
    references = [
        (
            "untrained encoder",
            str(len(_untrained(collected))),
            *(_untrained_cell(collected, n) for n in untrained),
        )
    ]
    for by, words in LOOKUPS.items():
        values = [lookup(collected, f"lookup.{by}.{what}") for what in ("accuracy", "ambiguous_accuracy")]
        references.append((words, DASH, *(labels.number(value, 3) for value in values), *blanks))
    return Panel(
        "features",
        "Part-of-speech accuracy of a linear probe on frozen features, all layers concatenated, on all and on "
        f"ambiguous words, and of each layer alone ({INTERVAL}); below, what needs no pre-training: the same "
        "encoders before their first step, and the most frequent training tag of a word or of its first piece. "
        "n: finished runs, of those that ended where some diverged.",
        ("MASK/SAME/RND", "n", "all layers", "ambiguous", *titles),
        tuple((*_head(arm, collected), *(_cell(collected, arm, name) for name in names)) for arm in arms),
        tuple(references),
    )


def _realised(arms: tuple[str, ...], collected: tidy.Collected) -> Panel:
    rows = []
    for arm in arms:
        counts = {
            name: collected.array(arm, f"realised.{name}").sum()
            for name in ("eligible", "selected", *measures.KINDS)
        }
        there = counts["selected"] > 0
        shares = [
            labels.number(100 * counts[kind] / counts["selected"], 2) if there else DASH
            for kind in measures.KINDS
        ]
        rate = labels.number(100 * counts["selected"] / counts["eligible"], 3) if there else DASH
        rows.append((*_head(arm, collected), rate, *shares, labels.number(counts["selected"], 0)))
    return Panel(
        "realised",
        "What was drawn over all runs of an arm: tokens selected in per cent of the ordinary tokens, and what "
        "stood in their place in per cent of the selected.",
        ("MASK/SAME/RND", "n", "rate %", "[MASK] %", "same %", "random %", "targets"),
        tuple(rows),
    )


def lookup(collected: tidy.Collected, name: str) -> float | None:
    """A reference that belongs to the vocabulary and is the same for every run; None where runs differ."""
    r = collected.results
    values = r[(r["measure"] == name) & r["value"].notna()]["value"].unique()
    return float(values[0]) if len(values) == 1 else None


def untrained(collected: tidy.Collected, measure: str) -> summary.Estimate | None:
    """A measure of the encoders before their first step, each counted once."""
    r = collected.results
    rows = r[(r["measure"] == measure) & r["value"].notna()].drop_duplicates("run")
    return summary.estimate(rows["value"].to_numpy(dtype=float))


def _untrained(collected: tidy.Collected) -> list[str]:
    r = collected.results
    return sorted(set(r[(r["measure"] == "untrained.probe.accuracy") & r["value"].notna()]["run"]))


def _untrained_cell(collected: tidy.Collected, measure: str) -> str:
    return plus_minus(untrained(collected, measure), labels.digits(measure))


def _head(arm: str, collected: tidy.Collected) -> tuple[str, str]:
    finished = len(collected.values(arm, "probe.accuracy"))
    lost = len(collected.diverged(arm))
    return labels.arm(arm), f"{finished} of {finished + lost}" if lost else str(finished)


def _cell(collected: tidy.Collected, arm: str, measure: str) -> str:
    return plus_minus(summary.estimate(collected.array(arm, measure)), labels.digits(measure))


def plus_minus(estimate: summary.Estimate | None, digits: int) -> str:
    """`mean ± half-width`, the mean alone where one seed gives no interval, a dash where none has a value."""
    if estimate is None:
        return DASH
    mean = labels.number(estimate.mean, digits)
    return (
        f"{mean} ± {labels.number(estimate.half_width, digits)}" if math.isfinite(estimate.half_width) else mean
    )


def markdown(panel: Panel) -> str:
    """A pipe table with its caption; spaces around ± do not break."""
    rules = [":---", *["---:"] * (len(panel.columns) - 1)]
    lines = [panel.columns, tuple(rules), *panel.rows, *panel.references]
    body = "\n".join(
        "| " + " | ".join(cell.replace(" ± ", "\u00a0±\u00a0") for cell in line) + " |" for line in lines
    )
    return f"{body}\n\n: {panel.caption}\n"


def latex(panel: Panel) -> str:
    """A booktabs table."""

    def row(cells: tuple[str, ...]) -> str:
        return " & ".join(_escape(cell) for cell in cells) + r" \\"

    parts = [
        rf"\begin{{tabular}}{{@{{}}l{'r' * (len(panel.columns) - 1)}@{{}}}}",
        r"\toprule",
        row(panel.columns),
    ]
    parts += [r"\midrule", *map(row, panel.rows)]
    parts += [r"\midrule", *map(row, panel.references)] if panel.references else []
    parts += [r"\bottomrule", r"\end{tabular}"]
    caption = rf"\caption{{{_escape(panel.caption)}}}\label{{tbl:{panel.name}}}"
    return "\n".join([r"\begin{table}", r"\centering\small", caption, *parts, r"\end{table}", ""])


LATEX = {
    "\\": r"\textbackslash ",
    "[": "{[}",  # at the start of a row it would be taken for an option of the row before
    **{sign: rf"\{sign}" for sign in "%&_#"},
    " ± ": r"~$\pm$~",
    "−": "$-$",
    DASH: "---",
    "∞": r"$\infty$",
}


def _escape(text: str) -> str:
    for plain, code in LATEX.items():
        text = text.replace(plain, code)
    return text


def _rows(experiment: Experiment, collected: tidy.Collected) -> Iterator[tuple[object, ...]]:
    names = list(dict.fromkeys(collected.results["measure"]))
    for arm in experiment.arms:
        for name in names:
            if not name.startswith(("untrained.", "lookup.", "count.")):
                found = summary.estimate(collected.array(arm, name))
                if found is not None:
                    yield arm, "arm", name, found.mean, *_finite(found), found.sd, found.n
    for name in names:
        if name.startswith("untrained."):
            found = untrained(collected, name)
            if found is not None:
                yield (
                    "untrained",
                    "reference",
                    name.removeprefix("untrained."),
                    found.mean,
                    *_finite(found),
                    found.sd,
                    found.n,
                )
        elif name.startswith("lookup.") and (value := lookup(collected, name)) is not None:
            yield (
                ".".join(name.split(".")[:2]),
                "reference",
                f"probe.{name.split('.')[2]}",
                value,
                None,
                None,
                None,
                None,
            )


def _finite(found: summary.Estimate) -> tuple[float | None, float | None]:
    return (found.low, found.high) if math.isfinite(found.low) else (None, None)


def write(study: Study, name: str) -> None:
    """Write table.csv, table.md and table.tex of an experiment."""
    experiment, collected = study.experiment(name), tidy.load(study.scale, name)
    place, seen = layout.tables(study.scale, name), marks.of(study, collected)
    printed = panels(experiment, collected)
    tidy.write_csv(place / "table.csv", list(_rows(experiment, collected)), COLUMNS)
    title = f"# {experiment.title}\n\n"
    banner = "".join(f"**{mark}**\n\n" for mark in seen)
    write_atomically(place / "table.md", title + banner + "\n".join(map(markdown, printed)))
    comment = "".join(f"% {mark}\n" for mark in seen)
    warning = "".join(rf"\textbf{{{_escape(mark)}}}" + "\n\n" for mark in seen)
    write_atomically(place / "table.tex", comment + warning + "\n".join(map(latex, printed)))
