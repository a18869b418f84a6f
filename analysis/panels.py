"""The printed tables of an experiment: what the table files, the paper and the report lay out.

A cell without a value stays a dash: an arm that never shows random tokens has no loss on them.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analysis import labels, summary, tidy
from analysis.study import Experiment
from mlm import measures

DASH = "—"
INTERVAL = "mean ± half the 95 % Student t interval over seeds"
ARM = "MASK/SAME/RND"
MOST_COLUMNS = 8
"""Kinds of minimal pairs that get a column each; of BLiMP's 67 none does."""


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
    """The printed tables of an experiment, of what is measured, in reading order."""
    table = _Table(experiment, collected)
    stated = table.names
    found: list[Panel] = []
    if "probe.accuracy" in stated:
        found.append(_features(table))
    if "pairs.accuracy" in stated:
        found.append(_pairs(table))
    if table.tasks():
        found.append(_tasks(table))
    if any(name.startswith("test.") for name in stated):
        found += [_held_out(table, "loss_nats", "Loss in nats"), _held_out(table, "accuracy", "Accuracy")]
    return [*found, _realised(table)]


class _Table:
    """An experiment, with what cells and rows are made of."""

    def __init__(self, experiment: Experiment, collected: tidy.Collected) -> None:
        self.arms, self.collected = experiment.arms, collected
        self.names = list(dict.fromkeys(name for names in experiment.measures.values() for name in names))

    def rows(self, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
        """A row an arm, a cell a measure."""
        return tuple((*self.head(arm), *(self.cell(arm, name) for name in names)) for arm in self.arms)

    def head(self, arm: str) -> tuple[str, str]:
        finished, lost = len(self.collected.finished(arm)), len(self.collected.diverged(arm))
        return labels.arm(arm), f"{finished} of {finished + lost}" if lost else str(finished)

    def cell(self, arm: str, name: str) -> str:
        return plus_minus(summary.estimate(self.collected.array(arm, name)), labels.digits(name))

    def untrained(self, names: Sequence[str]) -> tuple[str, ...]:
        """The row of the encoders before their first step."""
        found = [untrained(self.collected, f"untrained.{name}") for name in names]
        n = next((estimate.n for estimate in found if estimate), 0)
        return ("untrained encoder", str(n), *(plus_minus(e, labels.digits("")) for e in found))

    def reference(self, words: str, names: Iterable[str]) -> tuple[str, ...]:
        """A row of what needs no pre-training, on the same data."""
        return (words, DASH, *(labels.number(shared(self.collected, f"reference.{name}"), 3) for name in names))

    def tasks(self) -> list[str]:
        """Sentence tasks that are measured, from frozen features and then by fine-tuning."""
        probed = [name.split(".")[0] for name in self.names if name.endswith(".layer_0.accuracy")]
        tuned = [name.removesuffix(".accuracy") for name in self.names if name.startswith("finetune.")]
        return [name for name in probed if name != "probe"] + tuned


def _features(table: _Table) -> Panel:
    numbers = table.collected.layers()
    layers = [f"probe.layer_{layer}.accuracy" for layer in numbers]
    names = ["probe.accuracy", "probe.ambiguous_accuracy", *layers]
    lookups = [
        table.reference(words, (f"probe.lookup.{by}.{what}" for what in ("accuracy", "ambiguous_accuracy")))
        for by, words in (("first_piece", "lookup, first piece"), ("word", "lookup, whole word"))
    ]
    blanks = (DASH,) * len(layers)
    return Panel(
        "features",
        "Part-of-speech accuracy of a linear probe on frozen features, all layers concatenated, on all and on "
        f"ambiguous words, and of each layer alone ({INTERVAL}); below, what needs no pre-training: the same "
        "encoders before their first step, and the most frequent training tag of a word or of its first piece. "
        "n: finished runs, of those that ended where some diverged.",
        (ARM, "n", "all layers", "ambiguous", *(f"layer {n}" if n else "embedding" for n in numbers)),
        table.rows(names),
        (table.untrained(names), *((*row, *blanks) for row in lookups)),
    )


def _pairs(table: _Table) -> Panel:
    kinds = [name.split(".")[1] for name in table.names if name.startswith("pairs.") and name.count(".") == 2]
    kinds = kinds if len(kinds) <= MOST_COLUMNS else []
    names = ["pairs.accuracy", *(f"pairs.{kind}.accuracy" for kind in kinds)]
    unigram = [name.replace("pairs.", "pairs.unigram.", 1) for name in names]
    return Panel(
        "pairs",
        "Minimal pairs: share of the pairs whose grammatical sentence has the higher pseudo-log-likelihood, of "
        f"all pairs and by kind ({INTERVAL}); below, the same encoders before their first step, and the sum of "
        "log token frequencies. A coin is right in half.",
        (ARM, "n", "all", *(kind.replace("_", " ") for kind in kinds)),
        table.rows(names),
        (table.untrained(names), table.reference("token frequencies", unigram)),
    )


def _tasks(table: _Table) -> Panel:
    tasks = table.tasks()
    names = [f"{task}.accuracy" for task in tasks]
    of = [task if task.startswith("finetune.") else f"tasks.{task}" for task in tasks]
    references = [
        table.reference(words, (f"{task}.{by}.accuracy" for task in of))
        for by, words in (("majority", "most frequent class"), ("words", "naive Bayes on words"))
    ]
    return Panel(
        "tasks",
        "Accuracy on sentence tasks, from frozen features of all layers or by fine-tuning the whole encoder "
        f"({INTERVAL}); below, the same encoders before their first step, and what needs no encoder.",
        (ARM, "n", *(labels.task(task) for task in tasks)),
        table.rows(names),
        (table.untrained(names), *references),
    )


def _held_out(table: _Table, quantity: str, words: str) -> Panel:
    kinds = {"": "own"} | {f"{kind}.": f"own, {labels.PLAIN[kind]}" for kind in measures.KINDS}
    names = [f"test.yardstick.{quantity}", *(f"test.own.{kind}{quantity}" for kind in kinds)]
    relation = f"test.own.relation.{quantity}"
    judged = [relation] if relation in table.names else []
    return Panel(
        quantity.removesuffix("_nats"),
        f"{words} on the held-out test documents, on the common yardstick (15 %, all [MASK]) and under "
        "each arm's own corruption, by what stands at the target; a dash where an arm has no such "
        f"target ({INTERVAL}). Only the yardstick compares across arms.",
        (ARM, "n", "yardstick", *kinds.values(), *("sentence pairs" for _ in judged)),
        table.rows([*names, *judged]),
    )


def _realised(table: _Table) -> Panel:
    rows = []
    for arm in table.arms:
        counts = {
            name: table.collected.array(arm, f"realised.{name}").sum()
            for name in ("eligible", "selected", *measures.KINDS)
        }
        there = counts["selected"] > 0
        shares = [
            labels.number(100 * counts[kind] / counts["selected"], 2) if there else DASH
            for kind in measures.KINDS
        ]
        rate = labels.number(100 * counts["selected"] / counts["eligible"], 3) if there else DASH
        rows.append((*table.head(arm), rate, *shares, labels.number(counts["selected"], 0)))
    return Panel(
        "realised",
        "What was drawn over all runs of an arm: tokens selected in per cent of the ordinary tokens, and what "
        "stood in their place in per cent of the selected.",
        (ARM, "n", "rate %", "[MASK] %", "same %", "random %", "targets"),
        tuple(rows),
    )


def shared(collected: tidy.Collected, name: str) -> float | None:
    """A value that is the same for every run, as a reference of the vocabulary; None where runs differ."""
    r = collected.results
    values = r[(r["measure"] == name) & r["value"].notna()]["value"].unique()
    return float(values[0]) if len(values) == 1 else None


def untrained(collected: tidy.Collected, measure: str) -> summary.Estimate | None:
    """A measure of the encoders before their first step, each counted once."""
    r = collected.results
    rows = r[(r["measure"] == measure) & r["value"].notna()].drop_duplicates("run")
    return summary.estimate(rows["value"].to_numpy(dtype=float))


def plus_minus(estimate: summary.Estimate | None, digits: int) -> str:
    """`mean ± half-width`, the mean alone where one seed gives no interval, a dash where none has a value."""
    if estimate is None:
        return DASH
    mean = labels.number(estimate.mean, digits)
    return (
        f"{mean} ± {labels.number(estimate.half_width, digits)}" if math.isfinite(estimate.half_width) else mean
    )
