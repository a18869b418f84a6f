"""Some published runs once more, from scratch and in a place of their own, beside what was published of them.

verify.yaml in the published folder states which; `analysis.verify_checks` what must be the same.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from analysis import collect, publish_page, published_runs, sides, study, tidy, verify_checks
from analysis.publish_page import Published
from analysis.published_runs import Reference
from analysis.verify_checks import Check
from mlm import archives, devices, layout, planner, yaml_file
from mlm.config import Numerics
from mlm.errors import InputError
from mlm.experiment import TUNE
from mlm.files import write_json
from mlm.study import Study
from mlm.yaml_file import Strict

STATED = "verify.yaml"
PLACE = layout.RESULTS / "verify"


class Part(Strict):
    """Runs of an experiment."""

    experiment: str
    arms: list[str] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)


class Stated(Strict):
    """verify.yaml."""

    runs: list[Part] = Field(min_length=1)


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    folder: Path
    checks: list[Check]
    reasons: dict[str, list[str]]
    """Experiment -> why bits are not promised; empty where they are."""

    @property
    def faults(self) -> list[Check]:
        """What is not as it must be."""
        return [check for check in self.checks if check.promised and not check.holds]


def stated(reference: Path, arms: Sequence[str], seeds: Sequence[int]) -> list[Part]:
    """The runs to repeat: those of verify.yaml, unless arms are named as EXPERIMENT/ARM.

    Raises:
        InputError: verify.yaml says something else than it may, or a name is no EXPERIMENT/ARM.
    """
    path = reference / STATED
    if not arms:
        content = yaml_file.read(path, "It states the runs to repeat; restore it, or name some with --arm")
        parts = yaml_file.validated(Stated, content, str(path)).runs
        return [one.model_copy(update={"seeds": [*seeds]}) if seeds else one for one in parts]
    found: dict[str, list[str]] = {}
    for arm in arms:
        experiment, slash, name = arm.partition("/")
        if not slash or not name:
            raise InputError(f"--arm {arm}: expected EXPERIMENT/ARM, for instance credit/causal-16")
        found.setdefault(experiment, []).append(name)
    return [Part(experiment=name, arms=mine, seeds=[*(seeds or [0])]) for name, mine in found.items()]


def verify(reference: Path, parts: Sequence[Part], cores: str = "all") -> Outcome:
    """Repeat runs in a new folder under results/verify, and compare.

    Args:
        reference: a published scale, as docs/results/laptop; its name is the scale's.
        cores: as Snakemake takes them.

    Raises:
        InputError: an unknown run, a damaged publication, or runs that do not finish.
    """
    published = {one.facts.experiment: one for one in publish_page.read(reference) if one.tested}
    scale = reference.resolve().name
    _check(reference, parts, published)
    planned = planner.load_study(scale, [part.experiment for part in parts])
    wanted = [(one.experiment, arm, seed) for one in parts for arm in one.arms for seed in one.seeds]
    _check_planned(scale, planned, wanted)
    there = {part.experiment: _Published(reference / part.experiment, published) for part in parts}
    # Archives are verified at each use, so those that are there will do.
    surroundings = {**os.environ, "WANDB_MODE": "disabled", "MLM_ARCHIVES": str(archives.folder().absolute())}
    folder = _new_folder()
    with contextlib.chdir(folder):
        _keep_numerics(planned, [one.runs for one in there.values() if one.runs])
        _run(scale, wanted, cores, surroundings)
        here = [_repeated(scale, part) for part in parts]
    among = sum(len(part.arms) * len(there[part.experiment].measures) for part in parts)
    checks = [
        check
        for part, repeated in zip(parts, here, strict=True)
        for check in _checks(part, *repeated, there[part.experiment], among)
    ]
    reasons: dict[str, list[str]] = {}
    for part, (mine, _) in zip(parts, here, strict=True):
        told = reasons.setdefault(part.experiment, [])
        told += [why for why in verify_checks.unlike(mine, there[part.experiment].runs) if why not in told]
    outcome = Outcome(folder, checks, reasons)
    write_json(folder / "verify.json", {
        "reference": reference.as_posix(), "runs": [part.model_dump() for part in parts],
        "bits_are_not_promised": reasons, "checks": [check._asdict() for check in checks],
        "faults": len(outcome.faults),
    })  # fmt: skip
    return outcome


class _Published:
    """An experiment as it is published, with what is compared."""

    def __init__(self, place: Path, published: dict[str, Published]) -> None:
        self.page = published[place.name]
        self.runs = published_runs.load(place)
        self.table = sides.table(place / "table.csv")
        contrasts = sides.table(place / "contrasts.csv")
        self.measures = list(dict.fromkeys((*contrasts["measure"], *published_runs.YARDSTICKS)))

    def counted(self, arm: str, seed: int) -> dict[str, int]:
        """What is exact on every machine, of a run; of older publications tokens and FLOPs."""
        run = self.runs.run(arm, seed) if self.runs else None
        if run:
            return run.exact
        table = self.page.runs
        row = table[(table["arm"] == arm) & (table["seed"] == seed)].iloc[0]
        return {"tokens": int(row["tokens"]), "flops": int(row["flops"])}


def _check(reference: Path, parts: Sequence[Part], published: dict[str, Published]) -> None:
    """Whether the runs are published."""
    if not published:
        raise InputError(f"{reference}: nothing is published there; name a folder such as docs/results/laptop")
    for part in parts:
        if part.experiment not in published:
            there = ", ".join(published)
            tried = part.experiment.endswith(TUNE)
            why = "tries learning rates, of which nothing is compared" if tried else "is not published"
            raise InputError(f"{reference}: experiment {part.experiment!r} {why}; there are: {there}")
        table = published[part.experiment].runs
        for key, named in (("arm", part.arms), ("seed", part.seeds)):
            there_ = list(dict.fromkeys(table[key]))
            if strange := [one for one in named if one not in there_]:
                raise InputError(
                    f"{reference / part.experiment}: no {key} {strange[0]!r} is published; there are: "
                    f"{', '.join(map(str, there_))}"
                )


def _check_planned(scale: str, planned: Study, wanted: Sequence[tuple[str, str, int]]) -> None:
    """Whether the files of the experiments still have the runs."""
    cells = {(cell.experiment, cell.arm, cell.seed) for cell in planned.cells}
    for experiment, arm, seed in wanted:
        if (experiment, arm, seed) not in cells:
            raise InputError(
                f"{layout.EXPERIMENTS / experiment}.yaml: at scale {scale} there is no arm {arm} with seed "
                f"{seed} any more; verify with the commit that it was published from, or name others with --arm"
            )


def _new_folder() -> Path:
    """An empty study: code and experiments of this one by links, nothing of its results."""
    root = Path.cwd()
    taken = [int(path.name) for path in PLACE.glob("*") if path.name.isdigit()]
    folder = root / PLACE / str(max(taken, default=0) + 1)
    folder.mkdir(parents=True)
    for path in sorted(root.iterdir()):
        if not path.name.startswith(".") and path.name != layout.RESULTS.name:
            (folder / path.name).symlink_to(path)
    return folder


def _keep_numerics(planned: Study, published: Sequence[Reference]) -> None:
    """Compute as the publication did, where this machine can."""
    for one in published[:1]:
        numerics = Numerics.model_validate(one.numerics)
        with contextlib.suppress(InputError):
            devices.check(numerics, "the publication")
            stated = planned.scale.numerics
            if stated is None or devices.completed(stated, planned.scale.compile, numerics) == numerics:
                write_json(planned.folder / "numerics.json", numerics.model_dump())


def _run(scale: str, wanted: Sequence[tuple[str, str, int]], cores: str, surroundings: dict[str, str]) -> None:
    """Train and measure the runs, in the current folder."""
    planned = planner.load_study(scale)
    targets = [
        str(folder / file)
        for cell in planned.cells
        if (cell.experiment, cell.arm, cell.seed) in wanted
        for folder in [layout.RESULTS / "runs" / cell.digest]
        for file in ("trained", *(one.file for one in planned.measures[cell.experiment]))
    ]
    targets += [
        str(layout.RESULTS / "untrained" / cell.untrained / one.file)
        for cell in planned.cells
        if (cell.experiment, cell.arm, cell.seed) in wanted
        for one in planned.measures[cell.experiment]
        if one.of_untrained
    ]
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--cores",
        cores,
        *dict.fromkeys(targets),
        "--config",
        f"scale={scale}",
    ]
    done = subprocess.run(command, check=False, env=surroundings)
    if done.returncode:
        raise InputError(f"{Path.cwd()}: the runs did not finish; what is told above says why")


def _repeated(scale: str, part: Part) -> tuple[Reference, tidy.Collected]:
    """What the repetition came to, as it would be published."""
    planned = study.load(scale)
    index = tuple(
        cell
        for cell in planned.index
        if cell.experiment == part.experiment and cell.arm in part.arms and cell.seed in part.seeds
    )
    repeated = planned.model_copy(update={"index": index})
    collect.collect(repeated, part.experiment)
    return published_runs.of(repeated, part.experiment), tidy.load(scale, part.experiment)


def _checks(
    part: Part, here: Reference, collected: tidy.Collected, there: _Published, among: int
) -> Iterator[Check]:
    name = part.experiment
    if there.runs:
        yield from verify_checks.inputs(name, here, there.runs)
    for arm in part.arms:
        # An older publication does not say how it was configured: nothing but its commit does.
        reasons = verify_checks.unlike(here, there.runs, arm)
        same = there.runs is None or not verify_checks.changed(here, there.runs, arm)
        found: list[Check] = []
        for run in (one for one in here.runs if one.arm == arm):
            yield from verify_checks.counted(name, run, there.counted(arm, run.seed), same)
            theirs = there.runs.run(arm, run.seed) if there.runs else None
            found += verify_checks.bits(name, run, theirs, not reasons) if theirs else []
        yield from found
        if not found or not all(check.holds for check in found):
            yield from verify_checks.intervals(name, collected, there.table, [arm], there.measures, among)
