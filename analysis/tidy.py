"""The tidy tables of an experiment: one row, one value. Written by `collect`, read by all that follows.

results.csv  experiment, arm, seed, measure, value, status, run    one row per arm, seed and measure
curves.csv   experiment, arm, seed, tokens, measure, value         one row per arm, seed, moment and measure
seconds.csv  experiment, arm, seed, measure, value                 what differs between machines, kept apart
collected.json  what was there, made by which code, and the hashes of the first two, so that a damaged table
                is noticed

A value that does not exist is empty, and `status` says why: `diverged`, or `unfinished`.
"""

import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import provenance
from mlm import layout
from mlm.errors import Damaged
from mlm.files import file_sha256, read_json, write_atomically

RESULTS = ("experiment", "arm", "seed", "measure", "value", "status", "run")
CURVES = ("experiment", "arm", "seed", "tokens", "measure", "value")
SECONDS = ("experiment", "arm", "seed", "measure", "value")
TYPES: dict[str, Any] = dict.fromkeys(("experiment", "arm", "measure", "status", "run"), str)
YARDSTICK = "validation.yardstick.loss_nats"
TEST_YARDSTICK = "test.yardstick.loss_nats"
TYPES |= {"seed": np.int64, "tokens": np.int64, "value": np.float64}


def csv_text(rows: Sequence[Sequence[Any]] | pd.DataFrame, columns: Sequence[str]) -> str:
    """CSV with the shortest digits that give each float back, the same line ends everywhere."""
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows), columns=list(columns))
    buffer = io.StringIO()
    frame.to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue()


def write_csv(path: Path, rows: Sequence[Sequence[Any]] | pd.DataFrame, columns: Sequence[str]) -> None:
    """Write CSV atomically."""
    write_atomically(path, csv_text(rows, columns))


@dataclass(frozen=True)
class Collected:
    """An experiment's collected results."""

    experiment: str
    results: pd.DataFrame
    """Columns `RESULTS`."""
    curves: pd.DataFrame
    """Columns `CURVES`."""
    partial: bool
    """Some run or measure is not there yet: what is built is marked, and gives no verdict."""
    runs: dict[str, int]
    """Number of runs finished, diverged, unfinished."""
    codes: dict[str, list[str]] = field(default_factory=dict)
    """Code that trained runs -> their digests, sorted. More than one only where that was asked for."""
    commits: dict[str, list[str]] = field(default_factory=dict)
    """The same by the commit that runs were made from, `+dirty` where the work tree had changes."""
    planned: str = ""
    """Which of the codes is the planned one, by all paths that the runs take through it."""

    @property
    def code(self) -> str | None:
        """The code that trained the runs; None before any has ended."""
        return ", ".join(self.codes) or None

    @functools.cached_property
    def trained(self) -> pd.DataFrame:
        """The rows of trained runs, without those of encoders before their first step."""
        return self.results[~self.results["measure"].str.startswith("untrained.")]

    @functools.cached_property
    def states(self) -> dict[str, str]:
        """Trained run -> finished, diverged or unfinished."""
        return dict(zip(self.trained["run"], self.trained["status"], strict=True))

    @functools.cached_property
    def _grouped(self) -> dict[tuple[str, str], pd.DataFrame]:
        """Rows with a value by arm and measure: asked for thousands of times, and found once.

        A run that diverged read and drew less than an arm's runs do; its rows tell so, and are none of these.
        """
        there = self.results[self.results["value"].notna() & (self.results["status"] != "diverged")]
        return {(str(arm), str(measure)): rows for (arm, measure), rows in there.groupby(["arm", "measure"])}

    def _rows(self, arm: str, measure: str) -> pd.DataFrame:
        return self._grouped.get((arm, measure), self.results[:0])

    def values(self, arm: str, measure: str) -> pd.Series:
        """The measure of an arm's runs, indexed by seed; runs without one, or that diverged, are left out."""
        return self._rows(arm, measure).set_index("seed")["value"].sort_index()

    def array(self, arm: str, measure: str) -> NDArray[np.float64]:
        """[n] values, in the order of the seeds."""
        return self.values(arm, measure).to_numpy(dtype=np.float64)

    def digests(self, arm: str, measure: str) -> dict[int, str]:
        """Seed -> run (or untrained encoder) that the measure was taken from."""
        rows = self._rows(arm, measure)
        return {int(seed): str(run) for seed, run in zip(rows["seed"], rows["run"], strict=True)}

    def finished(self, arm: str) -> list[int]:
        """Seeds whose run of the arm has finished and is measured."""
        mine = self.trained[(self.trained["arm"] == arm) & (self.trained["status"] == "finished")]
        return sorted({int(seed) for seed in mine["seed"]})

    def diverged(self, arm: str) -> list[int]:
        """Seeds whose run of the arm diverged."""
        r = self.results
        return sorted({int(seed) for seed in r[(r["arm"] == arm) & (r["status"] == "diverged")]["seed"]})

    def layers(self) -> list[int]:
        """Numbers of the layers that the probe read, 0 being the embedding."""
        pattern = r"^probe\.layer_(\d+)\.accuracy$"
        found = self.results["measure"].str.extract(pattern)[0].dropna()
        return sorted({int(layer) for layer in found})


def seconds(scale: str, experiment: str) -> pd.DataFrame:
    """seconds.csv, columns `SECONDS`.

    Raises:
        Damaged: it is missing, or no such table.
    """
    path = layout.tables(scale, experiment) / "seconds.csv"
    try:
        found = pd.read_csv(path, dtype={name: TYPES[name] for name in SECONDS}, keep_default_na=False)
        return found[list(SECONDS)]
    except (OSError, ValueError, KeyError) as error:
        remedy = f"run `python -m analysis collect {scale} {experiment}` again"
        raise Damaged(f"{path}: missing or damaged ({error}); {remedy}") from None


def load(scale: str, experiment: str) -> Collected:
    """The collected results of an experiment.

    Raises:
        Damaged: a table is missing, truncated or altered.
    """
    place = layout.tables(scale, experiment)
    remedy = f"run `python -m analysis collect {scale} {experiment}` again"
    provenance.check("collect", scale, experiment)
    manifest = read_json(place / "collected.json", remedy)
    try:
        hashes, counts = dict(manifest["files"]), dict(manifest["runs"])
        partial, codes, commits = bool(manifest["partial"]), dict(manifest["codes"]), dict(manifest["commits"])
        planned = str(manifest["planned"])
        frames = [_read(place / name, hashes[name], remedy) for name in ("results.csv", "curves.csv")]
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{place / 'collected.json'}: damaged ({error!r}); {remedy}") from None
    return Collected(experiment, frames[0], frames[1], partial, counts, codes, commits, planned)


def _read(path: Path, sha256: str, remedy: str) -> pd.DataFrame:
    if not path.exists():
        raise Damaged(f"{path}: missing; {remedy}")
    if file_sha256(path) != sha256:
        raise Damaged(f"{path}: truncated or altered (its SHA-256 is not the one in collected.json); {remedy}")
    columns = RESULTS if path.name == "results.csv" else CURVES
    return pd.read_csv(
        path,
        dtype={name: TYPES[name] for name in columns},
        keep_default_na=False,  # an arm may well be called NA
        na_values={"value": [""]},
    )
