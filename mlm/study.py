"""Scale and experiment files -> validated, frozen runs. Loads no torch.

The only place that expands arms × seeds. Merge order of a run:
package defaults <- scale <- the experiment's base <- arm <- command line.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mlm import brown, corpus, devices, identity, measures, schedules, yaml_file
from mlm.config import Numerics, Run, Vocabulary
from mlm.errors import InputError
from mlm.experiment import NAME_PATTERN, Contrast, Equivalence, Experiment, Scale
from mlm.files import read_json, write_json
from mlm.layout import EXPERIMENTS, RESULTS, study_file

MEASURES = {
    "evaluation": ("mlm.heldout", "mlm.measures"),
    "probe": ("mlm.probe", "mlm.brown"),
}
"""Measures of a finished run, each with the modules that decide its numbers beside the run's own."""
Layers = list[tuple[Path, str, Mapping[str, Any]]]
"""(file, key prefix, content) of each layer of a merge, in its order."""

TRAINING_CODE = (
    "mlm.config", "mlm.randomness", "mlm.batches", "mlm.selection", "mlm.masking", "mlm.schedules",
    "mlm.encoder", "mlm.objectives", "mlm.optimizer", "mlm.evaluate", "mlm.train",
)  # fmt: skip
"""The modules that decide a run's bits; tracking, display and the command line do not."""


@dataclass(frozen=True)
class Data:
    """The prepared data of a run, each folder named by what decides its content."""

    corpus_file: Path
    corpus: Path
    vocabulary: Path
    shards: Path


@dataclass(frozen=True)
class PlannedRun:
    """A run to train: everything its bits depend on, and the digest of that."""

    digest: str
    config: Run
    numerics: Numerics
    data: Data
    code: str

    @property
    def folder(self) -> Path:
        return RESULTS / "runs" / self.digest

    def record(self) -> dict[str, Any]:
        """The content of run folder's config.json; its digest names the folder."""
        return {
            "training": self.config.model_dump(),
            "numerics": self.numerics.model_dump(),
            "data": {
                "corpus": self.data.corpus.name,
                "vocabulary": self.data.vocabulary.parent.name,
                "shards": self.data.shards.name,
            },
            "code": self.code,
        }


def untrained_digest(record: Mapping[str, Any]) -> str:
    """Digest of a run's encoder before its first step, from the run's record."""
    code = identity.code_hash(("mlm.encoder", "mlm.randomness"), ("torch", "numpy"))
    training = record["training"]
    return identity.digest(
        [training["encoder"], training["seed"], record["numerics"], record["data"]["vocabulary"], code]
    )


@dataclass(frozen=True)
class Cell:
    """One row of the index: which run an experiment's arm and seed came to."""

    experiment: str
    arm: str
    seed: int
    digest: str
    untrained: str
    """Digest of the run's encoder before its first step; arms of one seed usually share it."""


@dataclass(frozen=True)
class Study:
    """Everything a scale runs, expanded and checked."""

    scale_name: str
    scale: Scale
    numerics: Numerics
    experiments: dict[str, Experiment]
    runs: dict[str, PlannedRun]
    cells: list[Cell] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return RESULTS / self.scale_name

    @property
    def probe_data(self) -> Path:
        return RESULTS / "data" / "probes" / f"brown-{brown.identity_of(self.scale.measures.probe)}"

    def measure_file(self, name: str) -> str:
        """File name of a measure inside a run's folder: its settings and code are part of it."""
        settings = getattr(self.scale.measures, name).model_dump()
        code = identity.code_hash(MEASURES[name], ("torch", "numpy"))
        data = self.probe_data.name if name == "probe" else ""
        return f"{name}-{identity.digest([settings, code, data])}.json"

    def contrast_rows(self, name: str) -> list[dict[str, Any]]:
        """An experiment's contrasts with baseline and measure filled in, for the analysis."""
        experiment = self.experiments[name]
        rows = []
        families: list[tuple[str, Sequence[Contrast | Equivalence]]] = [
            ("primary", [experiment.contrasts.primary]),
            ("secondary", experiment.contrasts.secondary),
            ("equivalence", experiment.contrasts.equivalence),
        ]
        for family, members in families:
            for contrast in members:
                row = contrast.model_dump()
                row["family"] = family
                row["against"] = contrast.against or experiment.baseline
                row["measure"] = contrast.measure or experiment.primary_measure
                rows.append(row)
        return rows

    def record(self) -> dict[str, Any]:
        """The study as data: what the analysis works from (results/<scale>/study.json)."""
        return {
            "scale": self.scale_name,
            "evidence": self.scale.evidence,
            "numerics": self.numerics.model_dump(),
            "measure_files": {name: self.measure_file(name) for name in MEASURES},
            "experiments": {
                name: {
                    **e.model_dump(
                        include={"title", "question", "claim", "reference", "baseline", "primary_measure"}
                    ),
                    "arms": list(e.arms),
                    "contrasts": self.contrast_rows(name),
                }
                for name, e in self.experiments.items()
            },
            "index": [vars(cell) for cell in self.cells],
        }

    def write(self) -> None:
        """Fix the numerics and write the index and the runs' resolved configurations, each once."""
        write_json(self.folder / "numerics.json", self.numerics.model_dump())
        write_json(study_file(self.scale_name), self.record())
        labels: dict[str, list[list[Any]]] = {}
        for cell in self.cells:
            labels.setdefault(cell.digest, []).append([self.scale_name, cell.experiment, cell.arm, cell.seed])
        for folder in (RESULTS / "runs").glob("*"):
            if folder.name not in labels:
                write_labels(folder, [], self.scale_name)  # of an arm that has been edited since
        for digest, run in self.runs.items():
            write_run(run)
            write_labels(run.folder, labels[digest], self.scale_name)


def write_run(run: PlannedRun) -> None:
    """Write a run folder's config.json, once."""
    path = run.folder / "config.json"
    if not path.exists():
        write_json(path, run.record())


def write_labels(folder: Path, labels: list[list[Any]], scale: str) -> None:
    """Who asks for a run, as (scale, experiment, arm, seed); labels of other scales stay."""
    path = folder / "labels.json"
    before = read_json(path, "delete it") if path.exists() else []
    after = [label for label in before if label[0] != scale] + labels
    if after != before:
        write_json(path, after)


DATA_RULES = ("corpus", "vocabulary", "shards", "sentences")
RUN_RULES = ("train", "measure", "measure_untrained")
ANALYSIS_RULES = (
    "collect",
    "contrasts",
    "table",
    "figures",
    "numbers",
    "paper",
    "wandb",
    "report_page",
    "comparison",
)
RESERVED = frozenset(("all", *DATA_RULES, *RUN_RULES, *ANALYSIS_RULES))
"""Names of the Snakefile's rules, which an experiment cannot have."""


def available() -> list[str]:
    """Names of the experiment files."""
    return sorted(path.stem for path in EXPERIMENTS.glob("*.yaml"))


def load_study(
    scale_name: str, experiments: Sequence[str] | None = None, overrides: Mapping[str, Any] | None = None
) -> Study:
    """Read, check and expand a scale and its experiments (all that exist, unless told).

    Raises:
        InputError: every problem found, each with file, key and remedy.
    """
    scale_file = EXPERIMENTS / "scales" / f"{scale_name}.yaml"
    scales = ", ".join(sorted(path.stem for path in scale_file.parent.glob("*.yaml")))
    given = yaml_file.read(scale_file, f"`scale` is one of: {scales}")
    scale = yaml_file.validated(Scale, given, str(scale_file))
    found: list[str] = []
    for name in scale.experiments:
        if name not in available():
            found.append(f"{scale_file}: experiments: no file {EXPERIMENTS / name}.yaml; "
                         f"there are: {', '.join(available())}")  # fmt: skip
    numerics = _numerics(scale, scale_name)
    read: dict[str, Experiment] = {}
    runs: dict[str, PlannedRun] = {}
    cells: list[Cell] = []
    planner = _Planner(scale_file, scale, numerics, dict(overrides or {}))
    for name in experiments if experiments is not None else available():
        path = EXPERIMENTS / f"{name}.yaml"
        try:
            if not re.fullmatch(NAME_PATTERN, name) or name in RESERVED:
                taken = ", ".join(sorted(RESERVED))
                raise InputError(f"{path}: name: use letters, digits and `._+-`, and none of {taken}")
            text = yaml_file.read(path, f"there are: {', '.join(available())}")
            try:
                experiment = yaml_file.validated(Experiment, text, str(path))
            except InputError as error:
                raise InputError(*error.problems, *planner.problems_of_arms(path, text)) from None
            planned = planner.expand(name, path, experiment)
        except InputError as error:
            found.extend(problem for problem in error.problems if problem not in found)
            continue
        read[name] = experiment
        for cell, run in planned:
            cells.append(cell)
            runs[run.digest] = run
    if found:
        raise InputError(*found)
    return Study(scale_name, scale, numerics, read, runs, cells)


def _numerics(scale: Scale, scale_name: str) -> Numerics:
    path = RESULTS / scale_name / "numerics.json"
    if not path.exists():
        return scale.numerics or devices.detect()
    remedy = f"it fixes the numerics of this study; restore it, or delete {path.parent} to begin anew"
    fixed = yaml_file.validated(Numerics, read_json(path, remedy), str(path))
    if scale.numerics is not None and scale.numerics != fixed:
        raise InputError(
            f"{EXPERIMENTS}/scales/{scale_name}.yaml: numerics: {scale.numerics.model_dump()} differ from "
            f"{fixed.model_dump()}, which this study began with ({path}); take them back, or copy the scale "
            "file to a new name, which is another study"
        )
    return fixed


@dataclass
class _Planner:
    scale_file: Path
    scale: Scale
    numerics: Numerics
    overrides: dict[str, Any]
    _data: dict[tuple[str, Vocabulary], Data] = field(default_factory=dict)

    def expand(self, name: str, path: Path, experiment: Experiment) -> list[tuple[Cell, PlannedRun]]:
        """Every arm × seed of an experiment as planned runs; all problems of the file at once."""
        seeds = experiment.seeds if isinstance(experiment.seeds, list) else list(range(experiment.seeds))
        seeds = seeds[: self.scale.seeds_at_most]
        resolved, found = self._arms(path, experiment.base, experiment.arms)
        if not self.overrides:  # a change on the command line may well make two arms alike
            found += _duplicates(path, resolved)
        found += _contrast_problems(path, experiment, resolved)
        if found:
            raise InputError(*found)
        code = identity.code_hash(TRAINING_CODE, ("torch", "numpy"))
        planned = []
        for arm, run in resolved.items():
            for seed in seeds:
                seeded = run.model_copy(update={"seed": seed})
                draft = PlannedRun("", seeded, self.numerics, self.data(run), code)
                digest = identity.digest(draft.record())
                final = PlannedRun(digest, seeded, self.numerics, draft.data, code)
                planned.append((Cell(name, arm, seed, digest, untrained_digest(final.record())), final))
        return planned

    def problems_of_arms(self, path: Path, text: Mapping[str, Any]) -> list[str]:
        """What is wrong with the arms of a file whose other keys are wrong already."""
        base, arms = text.get("base", {}), text.get("arms")
        if not isinstance(base, dict) or not isinstance(arms, dict):
            return []
        return self._arms(path, base, {arm: c for arm, c in arms.items() if isinstance(c, dict)})[1]

    def _arms(
        self, path: Path, base: dict[str, Any], arms: Mapping[str, dict[str, Any]]
    ) -> tuple[dict[str, Run], list[str]]:
        resolved: dict[str, Run] = {}
        found: list[str] = []
        for arm, changes in arms.items():
            layers: Layers = [
                (self.scale_file, "run", self.scale.run),
                (path, "base", base),
                (path, f"arms.{arm}", changes),
                (Path("--set"), "", self.overrides),
            ]
            try:
                resolved[arm] = _resolve(layers)
                self.data(resolved[arm])
            except InputError as error:
                found.extend(problem for problem in error.problems if problem not in found)
        return resolved, found

    def data(self, run: Run) -> Data:
        """Folders of a run's corpus, vocabulary and shards, named by what decides their content."""
        key = (run.corpus, run.vocabulary)
        if key not in self._data:
            file = EXPERIMENTS / "corpora" / f"{run.corpus}.yaml"
            known = next((data.corpus for data in self._data.values() if data.corpus_file == file), None)
            if known is None:
                modules = ("corpus", "division", "sources", "archives", "cleaning", "prose", "duplicates")
                code = identity.code_hash(tuple(f"mlm.{name}" for name in modules))
                known = Path(f"{run.corpus}-{identity.digest([corpus.load(file).identity(file), code])}")
            source = known.name
            code = identity.code_hash(("mlm.vocabulary",), ("sentencepiece",))
            pieces = identity.digest([source, run.vocabulary.model_dump(), code])
            stem = f"{run.corpus}-{run.vocabulary.kind}-{run.vocabulary.size}"
            shards = identity.digest([pieces, identity.code_hash(("mlm.shards",))])
            root = RESULTS / "data"
            self._data[key] = Data(
                corpus_file=file,
                corpus=root / "corpora" / source,
                vocabulary=root / "vocabularies" / f"{stem}-{pieces}" / "vocabulary.model",
                shards=root / "shards" / f"{stem}-{shards}",
            )
        return self._data[key]


def _resolve(layers: Layers) -> Run:
    found = [
        _blame(layers, ["seed"], "seeds belong in `seeds:` of the experiment, or behind `--seed`")
        for _, _, changes in layers
        if "seed" in changes
    ]
    merged = yaml_file.merge(*(changes for _, _, changes in layers))
    while True:
        try:
            run = Run.model_validate(merged)
            break
        except ValidationError as error:
            wrong = list(yaml_file.problems(error, Run, merged))
            for where, what in wrong:
                # A problem between two keys begins with the first of them.
                found.append(_blame(layers, where or what.split(" ", 1)[0].split("."), what))
            # Problems between keys show only once each key by itself is right: drop what is not.
            if not all(_drop(merged, where) for where, _ in wrong):
                break
    if found:
        raise InputError(*dict.fromkeys(found))
    return run


def _drop(content: dict[str, Any], where: list[str]) -> bool:
    """Remove a key from nested mappings, or the one of its path that is no mapping."""
    for depth, key in enumerate(where[:-1]):
        if not isinstance(content.get(key), dict):
            where = where[: depth + 1]
            break
        inner = dict(content[key])  # the layers keep theirs
        content[key] = inner
        content = inner
    return bool(where) and content.pop(where[-1], None) is not None


def _blame(layers: Layers, where: list[str], what: str) -> str:
    """Name the file and key that set a refused value: the last layer that says most of its path."""
    best, depth_of_best = layers[0], -1
    for layer in layers:
        content: Any = layer[2]
        depth = 0
        while depth < len(where) and isinstance(content, Mapping) and where[depth] in content:
            content = content[where[depth]]
            depth += 1
        if layer[2] and depth >= depth_of_best:
            best, depth_of_best = layer, depth
    file, prefix, _ = best
    key = ".".join(part for part in (prefix, *where) if part)
    return f"{file}: {key}: {what}"


def _duplicates(path: Path, resolved: Mapping[str, Run]) -> Iterator[str]:
    first: dict[str, str] = {}
    for arm, run in resolved.items():
        same = first.setdefault(run.model_dump_json(), arm)
        if same != arm:
            yield f"{path}: arms.{arm}: asks for the same runs as arms.{same}; change or remove one"


def _contrast_problems(path: Path, experiment: Experiment, resolved: Mapping[str, Run]) -> Iterator[str]:
    arms = ", ".join(experiment.arms)
    if experiment.baseline not in experiment.arms:
        yield f"{path}: baseline: no arm is called {experiment.baseline!r}; there are: {arms}"
    stated: list[tuple[str, Contrast | Equivalence]] = [("primary", experiment.contrasts.primary)]
    stated += [(f"secondary.{i}", c) for i, c in enumerate(experiment.contrasts.secondary)]
    stated += [(f"equivalence.{i}", c) for i, c in enumerate(experiment.contrasts.equivalence)]
    seen: dict[tuple[str, ...], str] = {}
    for where, contrast in stated:
        kind = where.replace("primary", "secondary").split(".")[0]
        compared = (kind, contrast.arm, str(contrast.against), str(contrast.measure))
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
            if arm in resolved and (problem := _measure_problem(measure, resolved[arm])):
                yield f"{source}: {problem}"
                break


def _measure_problem(measure: str, run: Run) -> str | None:
    known = measures.names(run.encoder.layers)
    if measure not in known:
        near = difflib.get_close_matches(measure, known, 3) or known
        return f"no measure is called {measure!r}; near are: {', '.join(near[:6])}"
    kind = measure.split(".")[2] if measure.count(".") == 3 else None
    if kind is not None and getattr(schedules.masking(run.masking, 1.0).split, kind) == 0:
        return f"{measure} does not exist for an arm whose split has no {kind} tokens"
    return None
