"""Numbers that are of no arm and no contrast: of experiments together, what one took, slopes of its figures."""

import math
from collections.abc import Iterable, Iterator, Sequence

from analysis import contrasts, leaving, survival, tidy
from analysis.entries import Entry, new_entry
from analysis.multiplicity import holm_of_stated
from analysis.study import Study

JACKKNIFE = "95 %, leaving out one seed at a time"


def of_all(study: Study, names: Sequence[str]) -> Iterator[tuple[str, Entry]]:
    """What the experiments come to together: runs, each once, and the primaries of all as one family."""
    states: dict[str, str] = {}
    for name in names:
        states |= tidy.load(study.scale, name).states
    of = {name: {cell.digest for cell in study.cells(name)} for name in names}
    digests = {digest for mine in of.values() for digest in mine}
    finished = [digest for digest in digests if states.get(digest) == "finished"]
    for key, runs_ in (("planned", digests), ("finished", finished)):
        yield f"all.runs.{key}", new_entry(len(runs_), 0, "runs", runs_)
    for name, mine in of.items():
        shared = mine & {digest for other, theirs in of.items() if other != name for digest in theirs}
        yield f"{name}.cost.shared", new_entry(len(shared), 0, "runs", shared)
    primaries = [r for name in names for r in contrasts.load(study.scale, name) if r.family == "primary"]
    for result, p in zip(primaries, holm_of_stated([r.p for r in primaries]), strict=True):
        yield f"{result.id}.p_holm_primaries", new_entry(p, 4, "p", result.runs)


def cost(name: str, collected: tidy.Collected) -> Iterator[tuple[str, Entry]]:
    """Tokens and operations of all runs of an experiment."""
    r = collected.results
    for what, unit, of, digits in (("tokens", "tokens", 1.0, 0), ("flops", "petaFLOPs", 1e15, 2)):
        spent = r[(r["measure"] == f"training.{what}") & r["value"].notna()].drop_duplicates("run")
        total = float(spent["value"].sum()) / of
        yield f"{name}.cost.{what}", new_entry(total, digits, unit, list(spent["run"]))


def of_leaving(
    key: str, lines: Sequence[leaving.Line], collected: tidy.Collected
) -> Iterator[tuple[str, Entry]]:
    """Slopes of log tokens on log candidates, and what sets those of a panel's two lines apart."""

    def told(found: survival.Slope | None, arms: Iterable[str]) -> Entry:
        r = collected.results
        digests = sorted(set(r[r["arm"].isin(list(arms)) & (r["status"] == "finished")]["run"]))
        base = new_entry(found and found.value, 2, "", digests) | {"interval": JACKKNIFE}
        if found is None or not math.isfinite(found.low):
            return base
        return base | {"low": found.low, "high": found.high, "n": found.n}

    for one in leaving.slopes(lines, key):
        yield one.key, told(one.slope, one.arms)
