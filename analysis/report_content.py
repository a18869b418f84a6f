"""Everything that a report on an experiment says, as plain data.

The page and the Weights & Biases report only lay it out, so the two cannot disagree.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from analysis import (
    contrasts,
    labels,
    marks,
    numbers,
    panels,
    report_fills,
    report_origin,
    report_tables,
    sentences,
    setup,
    style,
    tidy,
)
from analysis.printed import Panel
from analysis.quote import Quoter
from analysis.report_origin import Code, Fact, Link
from analysis.study import Study
from mlm.experiment import FAMILIES
from mlm.figures import EVERY
from mlm.history import Row

Emphasis = Literal["", "strong", "em"]
Sentence = tuple[tuple[Emphasis, str], ...]
"""Stretches of text, each with its emphasis."""
MARKS: dict[Emphasis, str] = {"": "", "strong": "**", "em": "*"}
EMPHASIS = re.compile(r"\*\*(.+?)\*\*|\*(\w+)\*")
PLURALS = {"secondary": "secondary contrasts", "equivalence": "equivalences"}


@dataclass(frozen=True)
class Verdict:
    """A stated contrast, in numbers and in words."""

    result: contrasts.Result
    headline: Sentence
    """Short, for the top of the report; the primary contrast alone has one."""
    sentence: Sentence
    """With everything that belongs to it."""


@dataclass(frozen=True)
class Run:
    """A run of an arm."""

    seed: int
    digest: str
    state: str
    """finished, diverged or unfinished."""


@dataclass(frozen=True)
class Arm:
    """An arm with its runs, by seed."""

    name: str
    label: str
    colour: str
    """As in the figures, #rrggbb."""
    baseline: bool
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Content:
    """A report."""

    experiment: str
    scale: str
    title: str
    question: str
    claim: str
    reference: tuple[str | Link | Code, ...]
    marks: tuple[str, ...]
    """What must be seen first: smoke, partial. None for a finished study."""
    primary_measure: str
    verdicts: tuple[Verdict, ...]
    """Families in order, the primary contrast first."""
    tallies: tuple[str, ...]
    """How the verdicts of each other family fell, a sentence each."""
    contrasts: Panel
    """A row a verdict."""
    withdrawn: tuple[Row, ...]
    """Contrasts that were stated at first, and are no longer."""
    splits: Panel
    """Corruption asked for and drawn, a row an arm."""
    differences: Panel
    """Settings in which the arms differ, a row an arm."""
    fills: tuple[report_fills.Fills, ...]
    """How each arm fills the prompts of its corpus at the end."""
    tables: Mapping[str, Panel]
    """Measures, a row an arm: features, pairs, tasks, loss, accuracy, reach, budget, where they are."""
    arms: tuple[Arm, ...]
    figures: tuple[str, ...]
    """Names; those made for the experiment's question last."""
    curves: tuple[str, ...]
    """Measures that have values over training tokens."""
    size: tuple[Fact, ...]
    settings: tuple[Fact, ...]
    provenance: tuple[Fact, ...]
    links: tuple[Link, ...]


def emphasised(sentence: Sentence, escape: Callable[[str], str]) -> str:
    """A sentence in Markdown, its parts in bold or italics.

    Args:
        escape: what Markdown would read as its own in a part, written so that it does not.

    >>> emphasised((("", "so "), ("strong", "it")), str.upper)
    'SO **IT**'
    """
    return "".join(f"{MARKS[kind]}{escape(text)}{MARKS[kind]}" for kind, text in sentence)


def build(study: Study, name: str) -> Content:
    """The report of an experiment, from what `collect` and `contrasts` wrote.

    Raises:
        InputError: no such experiment, or its tables or runs are missing or damaged.
    """
    experiment, collected = study.experiment(name), tidy.load(study.scale, name)
    results, withdrawn = contrasts.load_all(study.scale, name)
    quote = Quoter(dict(numbers.of(study, name)))
    printed = panels.panels(study, name, collected, tidy.seconds(study.scale, name))
    tables = {panel.name: panel for panel in printed}
    drawn = tables.pop("realised")
    return Content(
        experiment=name,
        scale=study.scale,
        title=experiment.title,
        question=experiment.question,
        claim=experiment.claim,
        reference=tuple(report_origin.reference(experiment.reference)),
        marks=tuple(marks.of(study, collected)),
        primary_measure=experiment.primary_measure,
        verdicts=tuple(_verdicts(results, quote)),
        tallies=tuple(_tallies(results)),
        contrasts=report_tables.contrasts(results, withdrawn),
        withdrawn=tuple(withdrawn),
        splits=report_tables.splits(study, name, drawn),
        differences=report_tables.differences(study, name),
        fills=tuple(report_fills.of(study, name)),
        tables=tables,
        arms=tuple(_arms(study, name, collected)),
        figures=(*EVERY, *(one.stem for one in experiment.figures)),
        curves=tuple(dict.fromkeys(collected.curves.dropna(subset="value")["measure"])),
        size=tuple(report_origin.size(name, quote, setup.corpus(study, name))),
        settings=tuple(report_origin.settings(study, name)),
        provenance=tuple(report_origin.provenance(study, name, collected)),
        links=report_origin.links(study.scale, name),
    )


def spans(markdown: str) -> Sentence:
    """A sentence of `analysis.sentences`, its emphasis taken apart.

    >>> spans("**a** is --- *supported*.")
    (('strong', 'a'), ('', ' is — '), ('em', 'supported'), ('', '.'))
    """
    kinds: tuple[Emphasis, ...] = ("", "strong", "em")
    text = markdown.replace(" --- ", " — ").replace(" %", "\u00a0%").replace(" = ", "\u00a0=\u00a0")
    return tuple((kinds[i % 3], part) for i, part in enumerate(re.split(EMPHASIS, text)) if part)


def _verdicts(results: Sequence[contrasts.Result], quote: Quoter) -> Iterator[Verdict]:
    for result in results:
        size = sum(other.family == result.family for other in results)
        headline = sentences.headline(result, quote) if result.family == "primary" else ""
        yield Verdict(result, spans(headline), spans(sentences.verdict(result, quote, size)))


def _tallies(results: Sequence[contrasts.Result]) -> Iterator[str]:
    for family in FAMILIES:
        mine = [result for result in results if result.family == family]
        if family in PLURALS and mine:
            yield f"Of the {PLURALS[family]} {sentences.tally(mine)}."


def _arms(study: Study, name: str, collected: tidy.Collected) -> Iterator[Arm]:
    experiment = study.experiment(name)
    for index, arm in enumerate(experiment.arms):
        mine = [cell for cell in study.cells(name) if cell.arm == arm]
        states = [collected.states.get(cell.digest, "unfinished") for cell in mine]
        found = tuple(Run(cell.seed, cell.digest, state) for cell, state in zip(mine, states, strict=True))
        yield Arm(arm, labels.arm(arm), style.line(index)[0], arm == experiment.baseline, found)
