"""What is wrong with an experiment whose keys are all right by themselves. Loads no torch."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mlm import measured, measures
from mlm.config import Run
from mlm.experiment import Equivalence, Experiment, Measures


def duplicates(path: Path, resolved: Mapping[str, Run]) -> Iterator[str]:
    """Arms that ask for the same runs."""
    first: dict[str, str] = {}
    for arm, run in resolved.items():
        same = first.setdefault(run.model_dump_json(), arm)
        if same != arm:
            yield f"{path}: arms.{arm}: asks for the same runs as arms.{same}; change or remove one"


def contrasts(
    path: Path, experiment: Experiment, resolved: Mapping[str, Run], stated: Measures
) -> Iterator[str]:
    """Contrasts that cannot be taken: of arms or of measures that do not exist, or stated twice."""
    arms = ", ".join(experiment.arms)
    if experiment.baseline not in experiment.arms:
        yield f"{path}: baseline: no arm is called {experiment.baseline!r}; there are: {arms}"
    known = {arm: measured.names(run, stated) for arm, run in resolved.items()}
    seen: dict[tuple[str, ...], str] = {}
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
                yield f"{source}: {problem}"
                break


def _measure(name: str, known: Sequence[str]) -> str | None:
    if measures.known(name, known):
        return None
    match name.split("."):
        case [part, "own", kind, _] if part in measures.SPLITS and f"{part}.own.loss_nats" in known:
            if kind == "relation":
                return f"{name} does not exist for an arm whose objective has no sentence pairs"
            if kind in measures.KINDS:
                return f"{name} does not exist for an arm whose split has no {kind} tokens"
    near = difflib.get_close_matches(name, known, 3) or known
    return (
        f"no measure is called {name!r}; near are: {', '.join(near[:6])}; what is measured is switched on "
        "in `measures:` of the scale"
    )
