"""The printed tables of an experiment: what the table files, the paper and the report lay out."""

import pandas as pd

from analysis import labels, leaving, panels_training, tidy
from analysis.printed import DASH, INTERVAL, Panel, Table
from analysis.study import Study
from mlm import measures

MOST_COLUMNS = 8
"""Kinds of minimal pairs that get a column each; of BLiMP's 67 none does."""


def panels(
    study: Study, name: str, collected: tidy.Collected, seconds: pd.DataFrame | None = None
) -> list[Panel]:
    """The printed tables of an experiment, of what is measured, in reading order.

    Args:
        seconds: of seconds.csv, for a table that may differ between machines; None leaves them out.
    """
    table = Table(study, name, collected, seconds)
    stated = table.names
    found: list[Panel] = []
    if "probe.accuracy" in stated:
        found.append(_features(table))
    if "pairs.accuracy" in stated:
        found.append(_pairs(table))
    if table.tasks():
        found.append(_tasks(table))
    if any(name.startswith("test.") for name in stated):
        held_out = (("loss_nats", "Loss in nats"), ("accuracy", "Accuracy"))
        found += [_held_out(table, what, words) for what, words in held_out if f"test.own.{what}" in stated]
    for figure in study.experiment(name).figures:
        if figure.kind == "leaving":
            found.append(
                _leaving(figure.stem, labels.level(figure.level), leaving.lines(study, name, collected, figure))
            )
    return [*found, *panels_training.panels(table)]


def _leaving(stem: str, level: str, lines: list[leaving.Line]) -> Panel:
    rows = [
        (
            line.words, labels.number(line.learning_rate, None), labels.number(cell.candidates, None),
            f"{cell.left} of {cell.runs}", labels.number(cell.median, 0),
        )
        for line in lines
        for cell in line.cells()
    ]  # fmt: skip
    return Panel(
        stem,
        f"Tokens until the loss under a run's own corruption is {level}, by learning rate and by the tokens "
        "that a position sees (a causal one on average): how many runs are seen to come there, and the "
        "Kaplan-Meier median, which there is where half of them do.",
        ("runs", "learning rate", "visible tokens", "left", "median tokens"),
        tuple(rows),
    )


def _features(table: Table) -> Panel:
    numbers = table.collected.layers()
    layers = [f"probe.layer_{layer}.accuracy" for layer in numbers]
    names = ["probe.accuracy", "probe.ambiguous_accuracy", *layers]
    lookups = [
        row
        for by, words in (("first_piece", "lookup, first piece"), ("word", "lookup, whole word"))
        for row in table.reference(
            words, [f"probe.lookup.{by}.{w}" for w in ("accuracy", "ambiguous_accuracy")]
        )
    ]
    blanks = (DASH,) * len(layers)
    return Panel(
        "features",
        "Part-of-speech accuracy of a linear probe on frozen features, all layers concatenated, on all and on "
        f"ambiguous words, and of each layer alone ({INTERVAL}); below, what needs no pre-training: the same "
        "encoders before their first step, and the most frequent training tag of a word or of its first piece. "
        "n: finished runs, of those that ended where some diverged.",
        (*table.heading, "all layers", "ambiguous", *(f"layer {n}" if n else "embedding" for n in numbers)),
        table.rows(names),
        (*table.untrained(names), *((*row, *blanks) for row in lookups)),
    )


def _pairs(table: Table) -> Panel:
    kinds = [name.split(".")[1] for name in table.names if name.startswith("pairs.") and name.count(".") == 2]
    kinds = kinds if len(kinds) <= MOST_COLUMNS else []
    names = ["pairs.accuracy", *(f"pairs.{kind}.accuracy" for kind in kinds)]
    unigram = [name.replace("pairs.", "pairs.unigram.", 1) for name in names]
    return Panel(
        "pairs",
        "Minimal pairs: share of the pairs whose grammatical sentence has the higher pseudo-log-likelihood, of "
        f"all pairs and by kind ({INTERVAL}); below, the same encoders before their first step, and the sum of "
        "log token frequencies. A coin is right in half.",
        (*table.heading, "all", *(kind.replace("_", " ") for kind in kinds)),
        table.rows(names),
        (*table.untrained(names), *table.reference("token frequencies", unigram)),
    )


def _tasks(table: Table) -> Panel:
    tasks = table.tasks()
    names = [f"{task}.accuracy" for task in tasks]
    of = [task if task.startswith("finetune.") else f"tasks.{task}" for task in tasks]
    references = [
        row
        for by, words in (("majority", "most frequent class"), ("words", "naive Bayes on words"))
        for row in table.reference(words, [f"{task}.{by}.accuracy" for task in of])
    ]
    return Panel(
        "tasks",
        "Accuracy on sentence tasks, from frozen features of all layers or by fine-tuning the whole encoder "
        f"({INTERVAL}); below, the same encoders before their first step, and what needs no encoder.",
        (*table.heading, *(labels.task(task) for task in tasks)),
        table.rows(names),
        (*table.untrained(names), *references),
    )


def _held_out(table: Table, quantity: str, words: str) -> Panel:
    kinds = {"": "own"} | {f"{kind}.": f"own, {labels.PLAIN[kind]}" for kind in measures.KINDS}
    names = [f"test.yardstick.{quantity}", *(f"test.own.{kind}{quantity}" for kind in kinds)]
    relation = f"test.own.relation.{quantity}"
    judged = [relation] if relation in table.names else []
    width = len(table.heading)
    rows = [
        # Nothing stands in the place of a causal arm's targets.
        (*row[: width + 2], *[DASH] * len(measures.KINDS), *row[width + 2 + len(measures.KINDS) :])
        if arm in table.causal
        else row
        for arm, row in zip(table.arms, table.rows([*names, *judged]), strict=True)
    ]
    yardstick, compares = "15 %, all [MASK]", "Only the yardstick compares across arms."
    if table.causal:
        arms = ", ".join(map(labels.arm, table.causal))
        yardstick += f"; the same targets from the left alone for {arms}"
        compares = "Only the yardstick compares across arms, and only among those that read alike."
    return Panel(
        quantity.removesuffix("_nats"),
        f"{words} on the held-out test documents, on the common yardstick ({yardstick}) and under "
        "each arm's own corruption, by what stands at the target; a dash where an arm has no such "
        f"target ({INTERVAL}). {compares}",
        (*table.heading, "yardstick", *kinds.values(), *("sentence pairs" for _ in judged)),
        tuple(rows),
    )
