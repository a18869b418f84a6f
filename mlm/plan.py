"""What is to be done of a study before a start: runs, tokens, operations, hours, bytes. Loads no torch."""

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.table import Table

from mlm import compiled, costs, devices, machine, planner
from mlm.errors import InputError
from mlm.experiment import PILOT, TUNE
from mlm.layout import EXPERIMENTS, RESULTS
from mlm.measured import Measured
from mlm.study import PlannedRun, Study


@dataclass(frozen=True)
class Cost:
    """What some experiments ask for, each run once; all but the first two of what is still to be done."""

    runs: int
    ended: int
    to_train: int
    tokens: int
    flops: int
    seconds: float
    """Of one core or GPU after another: training, measures, compiling."""
    hours: float
    """Until the last run is measured, so many at once."""
    disk_bytes: int
    by: dict[costs.Basis, int]
    """What the runs' times stand on -> how many."""

    def line(self) -> str:
        """In one sentence."""
        if not self.seconds:
            return f"{self.runs} runs, all of them trained and measured"
        return (
            f"{self.runs} runs, {self.ended} ended, {self.to_train} to train: {amount(self.tokens)} tokens, "
            f"{amount(self.flops)} FLOPs, {amount(self.disk_bytes)} bytes, about {hours(self.hours)} here"
        )


class _Run(NamedTuple):
    """What one run costs, if it has not ended."""

    flops: int
    training: costs.Seconds
    disk_bytes: int


class Reckoner:
    """A study, and the speed that its runs are reckoned by.

    Args:
        at_once: runs that are trained at the same time; as many as have a core or GPU of this machine for each
            of their processes, unless told.
        cores: of this machine that jobs may take; all, unless told. Runs on GPUs take one of these as well.
    """

    def __init__(self, study: Study, at_once: int | None = None, cores: int | None = None) -> None:
        self.study, self.history = study, costs.History()
        here = cores or machine.cores()
        if study.numerics.device == "cuda":
            here = min(here, max(1, devices.cuda_devices()))
        self.at_once = at_once or max(1, here // study.numerics.processes)
        self._alike: dict[str, _Run] = {}

    def cost(self, names: Iterable[str], trained_of: Mapping[str, float] | None = None) -> Cost:
        """Of experiments together, a run that they share once.

        Args:
            trained_of: run that has not ended -> share of its training that is done; none of any, unless told.
        """
        done = trained_of or {}
        asked = set(names)
        cells = [cell for cell in self.study.cells if cell.experiment in asked]
        trained: dict[str, dict[str, Measured]] = {}
        begun: dict[str, tuple[PlannedRun, dict[str, Measured]]] = {}
        for cell in cells:
            run, taken = self.study.runs[cell.digest], self.study.measures[cell.experiment]
            of_untrained = begun.setdefault(cell.untrained, (run, {}))[1]
            of_run = trained.setdefault(cell.digest, {})
            for one in taken:
                if not (run.folder / one.file).exists():
                    of_run[one.file] = one
                if one.of_untrained and not (RESULTS / "untrained" / cell.untrained / one.file).exists():
                    of_untrained[one.file] = one
        runs = [self.study.runs[digest] for digest in trained]
        ahead = [run for run in runs if not (run.folder / "run.json").exists()]
        told = {run.digest: self._run(run) for run in ahead}
        each = [
            told[run.digest].training.seconds * (1 - done.get(run.digest, 0.0)) if run.digest in told else 0.0
            for run in runs
        ]
        numerics = self.study.numerics
        alone = numerics.processes == 1  # runs of several processes are measured by jobs of one
        each = [
            seconds
            + self.history.measuring(
                trained[run.digest].values(), run.config, numerics, loaded=run.digest in told and alone
            )
            for run, seconds in zip(runs, each, strict=True)
        ]
        shapes = {run.shape for run in ahead if run.shape} - {
            path.stem for path in compiled.CACHE.glob("*.json")
        }
        seconds = sum(each) + costs.COMPILE_SECONDS * len(shapes)
        seconds += sum(
            self.history.measuring(taken.values(), run.config, numerics, trained=False)
            for run, taken in begun.values()
        )
        return Cost(
            runs=len(runs),
            ended=len(runs) - len(ahead),
            to_train=len(ahead),
            tokens=sum(run.config.steps * run.config.tokens_per_step for run in ahead),
            flops=sum(one.flops for one in told.values()),
            seconds=seconds,
            hours=max(seconds / self.at_once, max(each, default=0.0)) / 3600,
            disk_bytes=sum(one.disk_bytes for one in told.values()),
            by=dict(Counter(one.training.basis for one in told.values())),
        )

    def _run(self, run: PlannedRun) -> _Run:
        """The same for all seeds of an arm, so reckoned once."""
        config = run.config.model_copy(update={"seed": 0})
        key = config.model_dump_json()
        if key not in self._alike:
            seconds = self.history.seconds(config, run.numerics)
            self._alike[key] = _Run(costs.operations_of(config), seconds, costs.disk_bytes(config))
        return self._alike[key]

    def says(self, cost: Cost) -> str:
        """What an estimate stands on, and how runs compute, in words."""
        by = "; ".join(f"{n} {costs.BASES[basis]}" for basis, n in cost.by.items())
        jobs = "one job" if self.at_once == 1 else f"{self.at_once} jobs"
        return (
            f"Times are estimates for this machine, {jobs} at a time: of runs "
            f"{by or 'none, as all have ended'}. Data, tables, figures and the paper come on top. "
            f"{devices.told(self.study.numerics, self.study.scale.compile)}"
        )


def load(scale: str, names: Sequence[str]) -> tuple[Study, list[str]]:
    """A study with some of its experiments, and their names: those that the scale names, unless told.

    Args:
        names: experiments; `NAME-tune` and `NAME-pilot` are of the experiment NAME.
    """
    told = list(dict.fromkeys(names)) or planner.load_study(scale, []).scale.experiments
    files = planner.available()
    for name in told:
        if name not in files and (stem := Path(name).stem) in files:
            raise InputError(f"{name}: experiments go by their names; write {stem}")
    of = [name if name in files else name.removesuffix(TUNE).removesuffix(PILOT) for name in told]
    study = planner.load_study(scale, list(dict.fromkeys(of)))
    for name, file in zip(told, of, strict=True):
        if name not in study.experiments:
            key = name.removeprefix(f"{file}-")
            raise InputError(f"{EXPERIMENTS / file}.yaml: {key}: is not there, so there is no {name}; give it")
    return study, told


def table(reckoner: Reckoner, names: Sequence[str]) -> tuple[Table, Cost]:
    """A row an experiment and one of all, and what all cost."""
    study, each = reckoner.study, {name: reckoner.cost([name]) for name in names}
    total = reckoner.cost(names)
    shown = Table(
        title=f"{study.scale_name}: to be done",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    shown.add_column("experiment")
    for heading in ("runs", "ended", "to train", "tokens", "FLOPs", "time", "bytes"):
        shown.add_column(heading, justify="right")
    for name, cost in each.items():
        shown.add_row(name, *_cells(cost))
    if len(each) > 1:
        shared = sum(cost.runs for cost in each.values()) - total.runs  # a run of three experiments twice
        shown.add_section()
        shown.add_row("in all", *_cells(total))
        shown.caption = f"{shared} of the runs are shared, and made once" if shared else None
    return shown, total


def _cells(cost: Cost) -> list[str]:
    counted = [str(n) for n in (cost.runs, cost.ended, cost.to_train)]
    return [*counted, amount(cost.tokens), amount(cost.flops), hours(cost.hours), amount(cost.disk_bytes)]


def free_bytes() -> int:
    """Room on the disk that results lie on."""
    return shutil.disk_usage(RESULTS if RESULTS.exists() else ".").free


def record(reckoner: Reckoner, names: Sequence[str]) -> dict[str, Any]:
    """The same for a machine to read."""
    each = {name: vars(reckoner.cost([name])) for name in names}
    return {
        "scale": reckoner.study.scale_name,
        "at_once": reckoner.at_once,
        "experiments": each,
        "in_all": vars(reckoner.cost(names)),
        "free_bytes": free_bytes(),
    }


def amount(number: float) -> str:
    """Three digits and a unit's beginning.

    >>> amount(0), amount(950), amount(168_132_608), amount(2.56e15)
    ('0', '950', '168 M', '2.56 P')
    """
    for power, letter in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if number >= 10**power:
            return f"{number / 10**power:#.3g}".rstrip(".") + f" {letter}"
    return f"{number:.0f}"


def hours(number: float) -> str:
    """
    >>> hours(0.004), hours(0.7), hours(2.55), hours(340.0)
    ('1 min', '42 min', '2 h 33 min', '14 d 4 h')
    """
    minutes = max(1, round(60 * number)) if number else 0
    if minutes < 60:
        return f"{minutes} min"
    whole, rest = divmod(minutes, 60)
    return f"{whole} h {rest:02} min" if whole < 48 else f"{whole // 24} d {whole % 24} h"
