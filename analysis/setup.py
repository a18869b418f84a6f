"""What all runs of an experiment have in common, as the paper states it, and what sets its arms apart."""

from collections.abc import Iterator
from typing import Any

from analysis import runs
from analysis.study import Study
from mlm import config, yaml_file

UNITS = {"budget_tokens": "tokens", "learning_rate": "per step", "size": "pieces", "layers": "layers"}


def shared(study: Study, name: str) -> dict[str, Any]:
    """Dotted key -> value, for the settings that every run of the experiment has alike; seeds left out.

    What differs between arms is what the experiment is about, and belongs to the arms.
    """
    everyone = [yaml_file.flat(runs.config(cell.digest)["training"]) for cell in study.cells(name)]
    first = everyone[0] if everyone else {}
    return {
        key: value
        for key, value in first.items()
        if key != "seed" and all(key in other and other[key] == value for other in everyone)
    }


def differing(study: Study, name: str) -> dict[str, dict[str, Any]]:
    """Arm -> dotted key -> value, for the settings that `shared` leaves to the arms; seeds left out.

    An arm lacks the keys that its configuration does not have.
    """
    common = shared(study, name)
    return {
        cell.arm: {
            key: value
            for key, value in yaml_file.flat(runs.config(cell.digest)["training"]).items()
            if key != "seed" and key not in common
        }
        for cell in study.first_cells(name)
    }


def own_numbers(study: Study, name: str) -> Iterator[tuple[str, str, int | float, str]]:
    """(arm, key, value, unit) of every number in which the arms differ."""
    for arm, mine in differing(study, name).items():
        for key, value in mine.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield arm, key, value, UNITS.get(key.split(".")[-1], "")


def planned(study: Study, name: str) -> dict[str, config.Run]:
    """Arm -> what its runs are asked to do, but for the seed."""
    return {cell.arm: runs.planned(cell.digest) for cell in study.first_cells(name)}


def corpus(study: Study, name: str) -> runs.Corpus | None:
    """The corpus of the experiment's runs; None before any has ended, or where they differ."""
    found = [record.data.corpus for record in ended(study, name)]
    return found[0] if found and all(other == found[0] for other in found) else None


def versions(study: Study, name: str) -> dict[str, str]:
    """Package versions that all ended runs share."""
    found = [record.versions for record in ended(study, name)]
    return {k: v for k, v in found[0].items() if all(o.get(k) == v for o in found)} if found else {}


def commits(study: Study, name: str) -> list[str]:
    """The commits that the runs were made from, `(with changes)` where the work tree was not clean."""
    said = {
        f"{record.git.commit or 'no repository'}{' (with changes)' if record.git.dirty else ''}"
        for record in ended(study, name)
    }
    return sorted(said)


def devices(study: Study, name: str) -> set[str]:
    """What the ended runs were computed on, and in which numbers, `one CPU thread (bfloat16, compiled)`."""
    found = set()
    for record in ended(study, name):
        numerics = runs.config(record.digest)["numerics"]
        found.add(f"{record.device} ({numerics['dtype']}, {numerics['path']})")
    return found


def numbers(study: Study, name: str) -> Iterator[tuple[str, int | float, str]]:
    """(key, value, unit) of every number of the set-up."""
    common = shared(study, name)
    for key, value in common.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield key, value, UNITS.get(key.split(".")[-1], "")
    if {"sequence_length", "batch_size", "budget_tokens"} <= common.keys():
        step = common["sequence_length"] * common["batch_size"]
        yield "tokens_per_step", step, "tokens"
        yield "steps", common["budget_tokens"] // step, "steps"
    cells = study.cells(name)
    yield "arms", len(study.experiment(name).arms), "arms"
    yield "seeds", len(study.seeds(name)), "seeds"
    yield "runs", len(cells), "runs"
    sizes = {runs.parameters(cell.digest) for cell in cells} - {None}
    if len(sizes) == 1:
        yield "parameters", int(sizes.pop() or 0), "parameters"
    text = corpus(study, name)
    for split, size in text.splits.items() if text else ():
        for unit in ("documents", "characters", "bytes", "tokens"):
            yield f"corpus.{split}.{unit}", getattr(size, unit), unit


def ended(study: Study, name: str) -> list[runs.RunFile]:
    """What the runs of an experiment that have ended say of themselves."""
    found = (runs.run(cell.digest) for cell in study.cells(name))
    return [record for record in found if record is not None]
