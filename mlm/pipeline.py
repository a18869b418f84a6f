"""What the Snakefile asks of a study: which files a rule needs. Loads no torch."""

import fcntl
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlm import config, identity
from mlm.errors import InputError
from mlm.study import RESULTS, Data, PlannedRun, load_study

KNOWN = ("scale",)


class Plan:
    """A study and the ways back from folder names to what they hold.

    Bad input ends the process with status 2 and no traceback, before Snakemake starts a job.
    While it lives, the process holds a shared lock on results/.live, so that a start beside a live
    one can be told from the stale lock of a killed one.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        try:
            unknown = [key for key in settings if key not in KNOWN]
            if unknown:
                raise InputError(f"--config {unknown[0]}: unknown key; known keys: {', '.join(KNOWN)}")
            self.study = load_study(str(settings.get("scale", "laptop")))
        except InputError as error:
            for problem in error.problems:
                print(f"error: {problem}", file=sys.stderr)
            sys.stderr.flush()
            os._exit(2)  # Snakemake would wrap an exception in a traceback
        runs = self.study.runs.values()
        data = [run.data for run in runs]
        self.corpora = {d.corpus.name: d.corpus_file.stem for d in data}
        self.of_vocabulary: dict[str, Data] = {d.vocabulary.parent.name: d for d in data}
        self.of_shards: dict[str, Data] = {d.shards.name: d for d in data}
        self.vocabularies: dict[str, config.Vocabulary] = {
            run.data.vocabulary.parent.name: run.config.vocabulary for run in runs
        }
        self.of_untrained: dict[str, PlannedRun] = {
            cell.untrained: self.study.runs[cell.digest] for cell in reversed(self.study.cells)
        }
        self._lock = _say_alive()

    def measured(self, experiment: str) -> list[str]:
        """Every file that an experiment's results are collected from."""
        files = {name: self.study.measure_file(name) for name in ("evaluation", "probe")}
        found: dict[Path, None] = {}
        for cell in self.study.cells:
            if cell.experiment == experiment:
                folder = RESULTS / "runs" / cell.digest
                found |= dict.fromkeys((folder / "trained", *(folder / file for file in files.values())))
                found[RESULTS / "untrained" / cell.untrained / files["probe"]] = None
        return [str(path) for path in found]

    def stated(self, experiment: str) -> str:
        """Digest of what the study says of an experiment: arms, contrasts, runs."""
        record = self.study.record()
        index = [cell for cell in record["index"] if cell["experiment"] == experiment]
        return identity.digest([record["evidence"], record["experiments"][experiment], index])


def _say_alive() -> Any:
    RESULTS.mkdir(exist_ok=True)
    stream = (RESULTS / ".live").open("a")
    fcntl.flock(stream, fcntl.LOCK_SH)
    return stream
