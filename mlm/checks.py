"""What is wrong with an experiment whose keys are all right by themselves. Loads no torch."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mlm import measures, reach
from mlm.config import Run
from mlm.experiment import Equivalence, Experiment, Measures
from mlm.files import read_json


def sentences(where: str, run: Run, shards: Path) -> Iterator[str]:
    """An objective of sentence pairs on text without sentence boundaries, once the shards are there."""
    header = shards / "shards.json"
    if run.relation is None or not header.exists():
        return
    for split, counts in read_json(header, f"delete {shards} and run again")["splits"].items():
        if counts["lines"] == counts["documents"]:
            yield (
                f"{where}: {run.objective} reads pairs of lines, and no document of corpus {run.corpus}, "
                f"{split} split, has two; write a sentence a line, or choose another objective"
            )


def reachable(path: Path, resolved: Mapping[str, Run], stated: Measures) -> Iterator[str]:
    """Arms in which no held-out loss can be reached, where that is measured."""
    for arm, run in resolved.items():
        if stated.reach and (problem := reach.problem(run)):
            yield f"{path}: arms.{arm}: for measures.reach of the scale, {problem}; or leave `reach` out"


def over_training(where: str, runs: Iterable[Run], stated: Measures) -> Iterator[str]:
    """Measures over training where no run keeps weights on the way."""
    if stated.over_training and not any(run.kept_steps for run in runs):
        yield (
            f"{where}.over_training: no run keeps weights on the way; give `checkpoints_at` in `run:` or to an "
            "arm, or leave this out"
        )


def duplicates(path: Path, resolved: Mapping[str, Run]) -> Iterator[str]:
    """Arms that ask for the same runs."""
    first: dict[str, str] = {}
    for arm, run in resolved.items():
        same = first.setdefault(run.model_dump_json(), arm)
        if same != arm:
            yield f"{path}: arms.{arm}: asks for the same runs as arms.{same}; change or remove one"


def contrasts(
    path: Path, experiment: Experiment, resolved: Mapping[str, Run], known: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """Contrasts that cannot be taken: of arms or of measures that do not exist, or stated twice.

    Args:
        known: arm -> every value that is measured of its runs.
    """
    arms = ", ".join(experiment.arms)
    if experiment.baseline not in experiment.arms:
        yield f"{path}: baseline: no arm is called {experiment.baseline!r}; there are: {arms}"
    seen: dict[tuple[str, ...], str] = {}
    told: set[tuple[str, str]] = set()
    for _, where, contrast in experiment.contrasts.stated():
        claim = "equivalence" if isinstance(contrast, Equivalence) else "difference"
        compared = (claim, contrast.arm, str(contrast.against), str(contrast.measure))
        if (first := seen.setdefault(compared, where)) != where:
            yield f"{path}: contrasts.{where}: says the same as contrasts.{first}; remove one"
        key = f"{path}: contrasts.{where}"
        against = contrast.against or experiment.baseline
        for role, arm in (("arm", contrast.arm), ("against", contrast.against)):
            if arm is not None and arm not in experiment.arms:
                yield f"{key}.{role}: no arm is called {arm!r}; there are: {arms}"
        if contrast.arm == against:
            yield f"{key}: compares {against} with itself; name another arm"
        measure = contrast.measure or experiment.primary_measure
        source = f"{key}.measure" if contrast.measure else f"{path}: primary_measure"
        for arm in (contrast.arm, against):
            if arm in known and (problem := _measure(measure, known[arm])):
                if (source, measure) not in told:
                    yield f"{source}: {problem}"
                told.add((source, measure))
                break


def _measure(name: str, known: Sequence[str]) -> str | None:
    if measures.known(name, known):
        return None
    match name.split("."):
        case [part, "own", *_] if (
            f"{part}.own.loss_nats" not in known and f"{part}.own.relation.accuracy" in known
        ):
            return f"{name} does not exist for an arm whose objective predicts no tokens"
        case [part, "own", kind, _] if f"{part}.own.loss_nats" in known:
            if kind == "relation":
                return f"{name} does not exist for an arm whose objective has no sentence pairs"
            if kind in measures.KINDS:
                return f"{name} does not exist for an arm whose split has no {kind} tokens"
    near = difflib.get_close_matches(name, known, 3)
    hint = f"near are: {', '.join(near)}; " if near else ""
    return f"no measure is called {name!r}; {hint}what is measured is switched on in `measures:` of the scale"
