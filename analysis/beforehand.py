"""Whether contrasts were stated before the runs that they compare, and what was added or withdrawn later.

Git decides. A pair of runs tells nothing before both are there, so a contrast was stated before it where the
commit that one of the two was made from states it as it is now. What was published under docs/results counts
too, so that removing the results folder hides nothing, and so does the registration that the first run left.
Where none of them can tell, it is not known.
"""

import csv
import functools
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from analysis import runs
from mlm import layout, registration
from mlm.history import History, Row, Stated

When = Literal["beforehand", "post hoc", "not known"]


class Mark(NamedTuple):
    """When a contrast was stated."""

    stated: When
    stated_note: str = ""
    """Why it is not known to have been beforehand."""
    seeds_added: tuple[int, ...] = ()
    """Seeds that nobody had asked for when there were results already."""


class Pair(NamedTuple):
    """Two runs that are compared, by the commits that they were made from; None where that was not recorded."""

    seed: int
    commits: tuple[str | None, str | None]


class Evidence:
    """All that tells when an experiment's contrasts were stated."""

    def __init__(self, scale: str, name: str) -> None:
        self.name = name
        self.history = History(scale)
        self.registered = registration.registered(scale, name)
        self.place = registration.path_of(scale, name)
        self._table = layout.PUBLISHED / scale / name / "runs.csv"
        added = self.history.changes([self._table, self._table.with_name("contrasts.csv")], kinds="A")
        self.published = added[-1] if added else None
        """The first commit that has results of it."""

    def mark(self, row: Row, seeds: Sequence[int], digests: Sequence[str]) -> Mark:
        """When a contrast was stated.

        Args:
            seeds: of the pairs that are there.
            digests: their runs, those of the arm first, as `contrasts.Result` has them.
        """
        records = [runs.run(digest) for digest in digests]
        commits = [record.git.commit if record else None for record in records]
        made = list(zip(commits[: len(seeds)], commits[len(seeds) :], strict=True))
        pairs = [Pair(seed, both) for seed, both in zip(seeds, made, strict=True)]
        found = [*self._since_begun(row), *self._pairs(row, pairs), *self._since_published(row)]
        found += [] if self.history.head else [("not known", "there is no git history to tell")]
        found += [("not known", "the git history is shallow")] if self.history.shallow else []
        for when in ("post hoc", "not known"):
            if notes := [note for one, note in found if one == when]:
                return Mark(when, notes[0], self._added(row, pairs))
        return Mark("beforehand", "", self._added(row, pairs))

    def withdrawn(self, now: Iterable[Row]) -> list[Row]:
        """Contrasts that were stated when the first run began, or with the first results, and are no longer."""
        then = self._then
        both = (*(self.registered.contrasts if self.registered else ()), *(then.contrasts if then else ()))
        kept = {*now}
        return [row for row in dict.fromkeys(both) if row not in kept]

    def _since_begun(self, row: Row) -> Iterator[tuple[When, str]]:
        if self.registered is not None and row not in self.registered.contrasts:
            yield "post hoc", f"not as it was when the first run began ({self.place})"

    def _pairs(self, row: Row, pairs: Iterable[Pair]) -> Iterator[tuple[When, str]]:
        for pair in pairs:
            told = [commit and self.history.stated(commit, self.name) for commit in pair.commits]
            if any(one and row in one.contrasts for one in told):
                continue
            if all(told):
                shown = " and ".join(dict.fromkeys(commit[:10] for commit in pair.commits if commit))
                yield "post hoc", f"commit {shown}, which runs were made from, does not state it"
            elif not all(pair.commits):
                yield "not known", "the commit of a run was not recorded"
            else:
                lost = next(c for c, one in zip(pair.commits, told, strict=True) if c and one is None)
                yield "not known", f"commit {lost[:10]} of a run is not to be read here"

    def _since_published(self, row: Row) -> Iterator[tuple[When, str]]:
        if self.published is None:
            return
        then = self._then
        if then is None:
            yield "not known", f"what commit {self.published[:10]}, with results, stated cannot be read"
        elif row not in then.contrasts:
            yield "post hoc", f"commit {self.published[:10]}, which has results already, does not state it"
        else:
            yield from self._pairs(row, self._published_pairs(row))

    def _published_pairs(self, row: Row) -> Iterator[Pair]:
        """The pairs of a contrast whose runs were published first."""
        one, other = (self._published_commits.get(arm, {}) for arm in (row.arm, row.against))
        yield from (Pair(seed, (one[seed], other[seed])) for seed in sorted({*one} & {*other}))

    @functools.cached_property
    def _then(self) -> Stated | None:
        """What was stated with the first published results; None where there are none, or nothing tells."""
        return self.history.stated(self.published, self.name) if self.published else None

    @functools.cached_property
    def _published_commits(self) -> dict[str, dict[int, str | None]]:
        """Arm -> seed -> the commit that its first published run was made from."""
        text = self.published and self.history.text(self.published, self._table)
        found: dict[str, dict[int, str | None]] = {}
        for line in csv.DictReader(io.StringIO(text or "")):
            commit = line["commit"].partition(" ")[0]  # ` with changes` may follow
            known = commit if len(commit) == 40 else None  # else it was not recorded
            found.setdefault(line["arm"], {})[int(line["seed"])] = known
        return found

    def _added(self, row: Row, pairs: Sequence[Pair]) -> tuple[int, ...]:
        """Seeds that were not asked for where results were already there."""
        asked = [{*self.registered.seeds}] if self.registered else []
        then = self._then
        asked += [{*then.seeds}] if then and then.seeds else []
        for pair in (*pairs, *self._published_pairs(row)):
            told = [commit and self.history.stated(commit, self.name) for commit in pair.commits]
            seeds = {seed for one in told if one for seed in one.seeds}
            asked += [seeds] if all(told) and pair.seed in seeds else []
        return tuple(pair.seed for pair in pairs if any(pair.seed not in seeds for seeds in asked))
