"""An experiment as the paper tells it, whichever way its verdicts fell."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from analysis import (
    contrasts,
    figure_captions,
    labels,
    leaving,
    panels,
    published,
    report_origin,
    report_tables,
    sentences,
    setup,
    tidy,
)
from analysis.manuscript_markdown import heading, listed, pipe_table
from analysis.printed import Panel
from analysis.quote import Quoter
from analysis.study import Study
from mlm import config, figures, measures
from mlm.experiment import FAMILIES, Family
from mlm.history import Row


class Part:
    """An experiment as the paper sees it."""

    def __init__(self, study: Study, name: str, quote: Quoter) -> None:
        self.name, self.quote = name, quote
        self.stated = study.experiment(name)
        self.collected = tidy.load(study.scale, name)
        self.contrasts, self.withdrawn = contrasts.load_all(study.scale, name)
        self.panels = {panel.name: panel for panel in panels.panels(study, name, self.collected)}
        self.runs_of = setup.planned(study, name)
        self.differing = setup.differing(study, name)
        self.corpus = setup.corpus(study, name)
        self.versions, self.commits = setup.versions(study, name), setup.commits(study, name)
        self.partial, self.runs = self.collected.partial, self.collected.runs
        self.measure = labels.measure(self.stated.primary_measure)
        self.captions = figure_captions.of(self.stated)
        self.own_figures = [one.stem for one in self.stated.figures]
        self.curves = figure_captions.curves(self.stated)
        self.beside = [table for table in published.names() if name in published.load(table).experiments]
        self._leaving = {
            one.stem: leaving.lines(study, name, self.collected, one)
            for one in self.stated.figures
            if one.kind == "leaving"
        }

    def family(self, family: Family) -> list[contrasts.Result]:
        """Contrasts of a family, in the order of the file."""
        return [result for result in self.contrasts if result.family == family]

    def verdict(self, result: contrasts.Result) -> str:
        """A contrast in words."""
        size = sum(other.family == result.family for other in self.contrasts)
        return sentences.verdict(result, self.quote, size)

    def headline(self) -> str:
        """The primary contrast for the abstract."""
        return " ".join(sentences.headline(result, self.quote) for result in self.family("primary"))

    def set_beside(self, table: published.Published) -> list[published.Pair]:
        """Another study's differences beside those of the primary measure here."""
        return published.pairs(table, self.stated.primary_measure, self.contrasts, self.collected)

    def highest(self, table: published.Published) -> str:
        """Which row of another study's table is the highest there, and which here."""
        found = published.highest(table, self.stated.primary_measure, self.collected)
        if found is None:
            return ""
        theirs, ours = (labels.arm(row) for row in found)
        column = table.columns[table.compare].title
        where = f"{column} is highest there for {theirs}, and {self.measure} here for {ours}"
        return f"Of the settings that both have, {where}."

    def tallies(self) -> str:
        """How the verdicts of the other families fell."""
        found = []
        for family, words in (("secondary", "secondary contrast"), ("equivalence", "claim of no difference")):
            mine = [result for result in self.contrasts if result.family == family]
            could = sentences.left_open(mine, self.quote)
            if len(mine) == 1:
                found.append(f"The verdict on the {words} is *{mine[0].verdict}*.{could}")
            elif mine:
                several = words.replace("contrast", "contrasts").replace("claim", "claims")
                found.append(
                    f"Of the {sentences.count_word(len(mine))} {several} {sentences.tally(mine)}.{could}"
                )
        return " ".join(found)

    def slopes(self) -> Iterator[str]:
        """How the time on the plateau grows, a sentence a figure of that kind and learning rate."""
        for stem, lines in self._leaving.items():
            key = f"{self.name}.{stem}"
            for rate, group in groupby(lines, key=lambda line: line.learning_rate):
                mine = list(group)
                told = [self._slope(f"{key}.{line.key}.slope", f"for {line.words}") for line in mine]
                keys = [leaving.apart_key(key, one, other) for one, other in leaving.pairs(mine)]
                apart = [f", a difference of {self.quote.est(k)}" for k in keys if self.quote.has(k)]
                yield (
                    f"At learning rate {labels.number(rate, None)} the slope of log tokens on log visible "
                    f"tokens is {listed(told, 'and')}{''.join(apart)}."
                )

    def _slope(self, key: str, words: str) -> str:
        return (
            f"{self.quote.est(key)} {words}"
            if self.quote.has(key)
            else f"not to be had {words} (too few leave, or some are past the level from the start)"
        )

    def arms_table(self) -> str:
        """What each arm has of its own: of the baseline all, of the others what they change."""
        told = {arm: _told(self.runs_of[arm], mine) for arm, mine in self.differing.items()}
        base = told.get(self.stated.baseline, {})
        rows = []
        for arm, mine in told.items():
            changed = {k: v for k, v in mine.items() if base.get(k, report_origin.setting(None)) != v}
            own = mine if arm == self.stated.baseline else changed
            words = "; ".join(f"`{key}` {value}" for key, value in own.items())
            rows.append((labels.arm(arm), words or "as the baseline"))
        caption = (
            f"The arms. The row of {labels.arm(self.stated.baseline)}, the baseline, gives every setting that "
            "varies, the others only what they change."
        )
        return pipe_table(f"{self.name}-arms", caption, ("arm", "settings of its own"), rows, text=True)

    def contrasts_table(self) -> str:
        """Every stated contrast in numbers, under headings of families, and of measures where they differ."""
        rows: list[tuple[str, ...]] = []
        measured = list(dict.fromkeys(result.measure for result in self.contrasts))
        told = sorted(self.contrasts, key=lambda r: (FAMILIES.index(r.family), measured.index(r.measure)))
        for (family, measure), group in groupby(told, key=lambda r: (r.family, r.measure)):
            of = f": {labels.measure(measure)}" if len(measured) > 1 else ""
            rows.append(heading(family.capitalize() + of))
            rows += [_without_family(row) for row in _table(list(group)).rows]
        columns = _without_family(_table(self.contrasts[:1]).columns)
        caption = _table(self.contrasts, self.withdrawn).caption
        return pipe_table(f"{self.name}-contrasts", caption, columns, rows)


def _table(results: list[contrasts.Result], withdrawn: Sequence[Row] = ()) -> Panel:
    """The report's table of contrasts, but for what a page of paper has no room for."""
    return report_tables.contrasts(results, withdrawn, examples=False, power=False)


def _without_family(row: tuple[str, ...]) -> tuple[str, ...]:
    """A row of the report's table of contrasts of one measure; the second column is the family."""
    return (row[0], *row[2:])


def _told(run: config.Run, own: Mapping[str, Any]) -> dict[str, str]:
    """Settings as a reader sees them: a split in one, and none of corruption where there is none."""
    found = {}
    for key, value in own.items():
        whole, _, kind = key.rpartition(".")
        if key.startswith("masking.") and not run.corrupts and key != "masking.predicted":
            continue
        if whole.endswith("split") and kind in measures.KINDS:
            found[whole] = labels.setting(whole, figures.setting(run, whole))
        else:
            found[key] = report_origin.setting(value)
    return found
