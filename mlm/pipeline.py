"""What the Snakefile asks of a study: which files a rule needs. Loads no torch."""

import atexit
import contextlib
import difflib
import fcntl
import functools
import io
import os
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mlm import (
    allocation,
    compiled,
    costs,
    devices,
    failures,
    identity,
    layout,
    leases,
    log_head,
    orphans,
    plan,
    scales,
    tracking,
)
from mlm.config import Run
from mlm.errors import InputError
from mlm.files import check_room, clear_partial, write_json
from mlm.layout import RESULTS
from mlm.measured import Measured
from mlm.planner import load_study
from mlm.refusal import refusing
from mlm.study import PlannedRun

Value = TypeVar("Value")
KNOWN = ("scale", "mixed")
LONG_DEAD_SECONDS = 3600.0
"""Age at which a file that is not whole has lost its writer, who may be no job of Snakemake's."""
NOTES = Path(".snakemake")
NOTES_BYTES, NOTES_BYTES_A_RUN = 2**20, 2**15
"""What Snakemake's own notes may take: locks, logs, and a page or two for each file of a run."""


class _Known(dict[str, Value]):
    """What a study has, by names of folders or files; asked for another, the process ends as refused."""

    def __missing__(self, name: str) -> Any:
        with refusing(os._exit):
            raise InputError(
                f"{name}: nothing that this study runs is called so; where something was, the experiment files "
                "or the code changed since: take the change back, or ask for an experiment by its name"
            )


class Plan:
    """A study and the ways back from folder names to what they hold.

    Bad input ends the process with status 2 and no traceback, before Snakemake starts a job.
    While it lives, the process holds a shared lock on results/.live, so that a start beside a live
    one can be told from the stale lock of a killed one.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        with refusing(os._exit):
            unknown = [key for key in settings if key not in KNOWN]
            if unknown:
                raise InputError(f"--config {unknown[0]}: unknown key; known keys: {', '.join(KNOWN)}")
            mixed = str(settings.get("mixed", False)).lower()
            if mixed not in ("true", "false"):
                raise InputError(f"--config mixed={mixed}: is neither; write true or false")
            self.mixed = ["--mixed"] if mixed == "true" else []
            """What `collect` and `numbers` are told where runs of different code are to be taken together."""
            self.study = load_study(str(settings.get("scale") or scales.DEFAULT))
            tracking.environment(self.study.scale_name, os.environ)
            # Jobs are told `python`: they get the one that runs this, though its environment is not activated.
            os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            for name, problems in self.study.left_out.items():
                print(
                    f"note: {name} cannot be run at scale {self.study.scale_name}: {problems[0]}",
                    file=sys.stderr,
                )
            self._check_room()
            self._lock = _say_alive()
            os.environ[log_head.SCALE] = self.study.scale_name
            orphans.mark()
            atexit.register(self._tell_room)
        self.runs = _Known(self.study.runs)
        runs = self.runs.values()
        data = [run.data for run in runs]
        self.corpora = _Known({d.corpus.name: d.corpus_file.stem for d in data})
        self.of_vocabulary = _Known({d.vocabulary.parent.name: d for d in data})
        self.of_shards = _Known({d.shards.name: d for d in data})
        self.vocabularies: dict[str, Run] = {run.data.vocabulary.parent.name: run.config for run in runs}
        self.of_shape = _Known({run.shape: run for run in runs if run.shape})
        self.of_untrained = _Known({cell.untrained: self.runs[cell.digest] for cell in self.study.cells})
        self.measured = self._sets(self.study.measured())
        """Measures that are taken together, and the pattern of the runs."""
        self.measured_untrained = self._sets(self.study.measured(untrained=True))
        self.preparing = _Known(
            {
                path: one.preparing
                for cell in self.study.cells
                for one in self.study.measures[cell.experiment]
                if (run := self.runs[cell.digest]) and (path := one.data(run.data.vocabulary.parent.name))
            }
        )
        """File that measures read -> what the command that prepares it is told."""
        self._needed: dict[str, dict[str, int]] = {}

    def write(self, words: Sequence[str], here: bool = True) -> None:
        """Take up what a killed start left; write the study's index, and its runs' configurations and measures.

        This comes before the first job, when Snakemake has the folder to itself.

        Args:
            words: of the command line.
            here: whether the jobs compute on this machine, which must then have what it takes.
        """
        with refusing(os._exit):
            if here:
                orphans.end()
                clear_partial(RESULTS, LONG_DEAD_SECONDS)
                devices.check(self.study.numerics, str(self.study.folder / "numerics.json"))
            self.study.write()
            write_json(layout.measures_file(self.study.scale_name), self.measures(self._asked(words)))

    def tell_failures(self) -> None:
        """Say what failed, where its lines have scrolled away or went to another machine."""
        for one in failures.of_study(self.study):
            print(one, file=sys.stderr)

    @property
    def gpus(self) -> int:
        """What a job that computes takes of the `gpu` there are; training for each of its processes."""
        return int(self.study.numerics.device == "cuda")

    def gpu_jobs(self, limit: int | str | None, asked: Mapping[str, Any], here: bool) -> int | str | None:
        """The `gpu` that Snakemake is to be limited to; see `leases.limit`."""
        with refusing(os._exit):
            if self.study.numerics.device == "cuda":
                limit = leases.limit(limit, asked, here, self.study.numerics.processes)
        return limit

    def training(self, run: str) -> dict[str, int]:
        """What a cluster's scheduler is told that training and measuring a run needs."""
        if run not in self._needed:
            planned, taken = self.runs[run], self._taken[run].values()
            self._needed[run] = {
                "runtime": allocation.minutes(planned.config, planned.numerics, self._history, taken),
                "mem_mb": allocation.memory_mb(planned.config, planned.numerics),
            }
        return self._needed[run]

    def told(self, words: Sequence[str], cores: int | None, nodes: int | None) -> str:
        """What a start would do, in two lines; empty where nothing is left.

        Args:
            words: of the command line.
            cores: as Snakemake was told, for jobs on this machine.
            nodes: the same, for jobs on a cluster.
        """
        names = self._asked(words)
        reckoner = plan.Reckoner(self.study, nodes, cores)
        cost = reckoner.cost(names)
        more = f"`python -m mlm plan --scale {self.study.scale_name}` tells more."
        told = f"plan: {', '.join(names)}: {cost.line()}\nplan: {reckoner.says(cost)} {more}"
        return told if cost.seconds else ""

    def _asked(self, words: Sequence[str]) -> list[str]:
        """The experiments among the words of a command line, else those that the scale names."""
        return [word for word in words if word in self.study.experiments] or self.study.scale.experiments

    def measures(self, names: Collection[str]) -> dict[str, Any]:
        """What experiments measure of each run, as `mlm.measuring` reads it; a setting once a vocabulary."""
        measures: dict[str, dict[str, Any]] = {}
        runs: dict[str, Any] = {}
        for digest, files in self.study.taken(names).items():
            vocabulary = self.study.runs[digest].data.vocabulary.parent.name
            runs[digest] = {"vocabulary": vocabulary, "files": list(files)}
            told = measures.setdefault(vocabulary, {})
            for file, one in files.items():
                if file not in told:
                    told[file] = {
                        "name": one.name, "setting": one.given(vocabulary), "over_training": one.over_training,
                        "code": one.code,
                    }  # fmt: skip
        return {"measures": measures, "runs": runs}

    def _check_room(self) -> None:
        check_room(NOTES, NOTES_BYTES + NOTES_BYTES_A_RUN * len(self.study.runs))

    def _tell_room(self) -> None:
        """On a full disk Snakemake breaks in many lines that do not say so: say it in the last one."""
        with refusing(lambda status: None):
            self._check_room()

    def compiled(self, run: str) -> list[str]:
        """The file that tells that the steps of a run are compiled, if they are to be."""
        shape = self.runs[run].shape
        return [str(compiled.CACHE / f"{shape}.json")] if shape else []

    def vocabulary(self, name: str) -> str:
        """What `python -m mlm vocabulary` is told of the vocabulary in a folder."""
        run = self.vocabularies[name]
        if run.tokenizer:
            return shlex.join(["--tokenizer", run.tokenizer])
        return shlex.join(["--kind", run.vocabulary.kind, "--size", str(run.vocabulary.size)])

    @staticmethod
    def _sets(found: list[tuple[list[Measured], list[str]]]) -> list[tuple[list[Measured], str]]:
        """A rule of Snakemake states its outputs once, so each set of measures has one of its own."""
        return [(measures, "|".join(folders)) for measures, folders in found if measures]

    def check_targets(self, words: Sequence[str], rules: Collection[str]) -> None:
        """Refuse what a command line asks for and is neither a rule nor a path."""
        unknown = {word for word in words if not (word in rules or "/" in word or Path(word).exists())}
        if all(word.startswith("-") or "=" in word or word.isdigit() for word in unknown):
            return  # options at the most; Snakemake's own reading of them takes most of a second
        from snakemake.cli import parse_args

        with contextlib.redirect_stderr(io.StringIO()):  # it has said already by which profile
            targets = parse_args(words)[1].targets
        with refusing(os._exit):
            for word in targets:
                if word in unknown:
                    near = difflib.get_close_matches(word, rules, 1)
                    hint = f"did you mean `{near[0]}`? " if near else ""
                    raise InputError(
                        f"{word}: neither an experiment nor a path; {hint}experiments here: "
                        f"{', '.join(self.study.experiments)}"
                    )

    def refuse(self, experiment: str) -> None:
        """End with status 2 and say all that keeps an experiment from being run at this scale."""
        with refusing(os._exit):
            raise InputError(*self.study.left_out[experiment])

    def data(self, measures: list[Measured], run: PlannedRun) -> list[str]:
        """The prepared files that measures of a run read."""
        found = (one.data(run.data.vocabulary.parent.name) for one in measures)
        return list(dict.fromkeys(path for path in found if path))

    def words(self, measures: list[Measured], run: PlannedRun, untrained: str = "") -> str:
        """What `python -m mlm measure` is told of a run, or of its encoder before the first step."""
        folder = RESULTS / "untrained" / untrained if untrained else run.folder
        return " ".join(one.words(str(folder), run.data.vocabulary.parent.name) for one in measures)

    def collected(self, experiment: str) -> list[str]:
        """Every file that an experiment's results are collected from."""
        found: dict[Path, None] = {}
        for cell in self.study.cells:
            if cell.experiment == experiment:
                folder, untrained = RESULTS / "runs" / cell.digest, RESULTS / "untrained" / cell.untrained
                stated = self.study.measures[experiment]
                files = [folder / one.file for one in stated]
                files += [untrained / one.file for one in stated if one.of_untrained]
                found |= dict.fromkeys((folder / "trained", *files))
        return [str(path) for path in found]

    def tracked(self, experiment: str) -> str:
        """The file that tells what Weights & Biases was given of an experiment."""
        return str(self.study.folder / "wandb" / f"{experiment}.json")

    @functools.cached_property
    def _history(self) -> costs.History:
        return costs.History()

    @functools.cached_property
    def _taken(self) -> dict[str, dict[str, Measured]]:
        return self.study.taken(self.study.experiments)

    @functools.cached_property
    def _record(self) -> dict[str, Any]:
        return self.study.record()

    def stated(self, experiment: str) -> str:
        """Digest of what the study says of an experiment: arms, contrasts, measures, runs."""
        record = self._record
        index = [cell for cell in record["index"] if cell["experiment"] == experiment]
        return identity.digest([record["evidence"], record["experiments"][experiment], index])


def _say_alive() -> Any:
    RESULTS.mkdir(exist_ok=True)
    stream = (RESULTS / ".live").open("a")
    fcntl.flock(stream, fcntl.LOCK_SH)
    return stream
