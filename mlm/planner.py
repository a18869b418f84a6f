"""Scale and experiment files -> a study. Loads no torch.

The only place that expands arms × seeds. Merge order of a run:
package defaults <- scale <- the experiment's base <- arm <- command line.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mlm import (
    accepted,
    checks,
    devices,
    figures,
    golden,
    hugging_face,
    hugging_face_tokenizer,
    identity,
    matching,
    measured,
    plugins,
    scales,
    yaml_file,
)
from mlm.config import Numerics, Run, Vocabulary
from mlm.errors import InputError
from mlm.experiment import (
    PILOT,
    TUNE,
    Experiment,
    Measures,
    Pilot,
    Scale,
    pilot,
    seeds,
    trials,
)
from mlm.fields import NAME_PATTERN
from mlm.files import read_json
from mlm.layers import Layers, place, resolve
from mlm.layout import EXPERIMENTS, RESULTS
from mlm.measured import Measured
from mlm.study import Cell, Data, PlannedRun, Study, untrained_digest

DATA_RULES = ("corpus", "vocabulary", "shards", "sentences", "pairs", "task")
RUN_RULES = ("compile", "train")
ANALYSIS_RULES = (
    "collect",
    "tune",
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
PLACES = frozenset(("runs", "data", "untrained", "logs", "golden", "wandb", "verify", "bench"))
"""Folders under results/ that are no scale's."""
GENERATED = ("measure", "figures")
"""Beginnings of the names of rules that are made in a loop."""
NAMES = "use letters, digits and `._+-`, beginning with a letter or digit"
"""What NAME_PATTERN asks for, in words."""


def available() -> list[str]:
    """Names of the experiment files."""
    return sorted(path.stem for path in EXPERIMENTS.glob("*.yaml"))


def load_study(
    scale_name: str, experiments: Sequence[str] | None = None, overrides: Mapping[str, Any] | None = None
) -> Study:
    """Read, check and expand a scale and its experiments (all that exist, unless told).

    Of those that the scale does not name, what cannot be run at this scale is left out, and said why.

    Raises:
        InputError: every problem found, each with file, key and remedy.
    """
    scale_file = EXPERIMENTS / "scales" / f"{scale_name}.yaml"
    there = ", ".join(scales.names()) or "none"
    if not re.fullmatch(NAME_PATTERN, scale_name):
        raise InputError(f"scale {scale_name!r}: {NAMES}; there are: {there}")
    if scale_name in PLACES:
        raise InputError(f"{scale_file}: name: results/{scale_name} is there for something else; none of "
                         f"{', '.join(sorted(PLACES))} can be a scale's; rename the file")  # fmt: skip
    given = yaml_file.read(scale_file, f"`scale` is one of: {there}")
    scale = yaml_file.validated(Scale, given, str(scale_file))
    found: list[str] = []
    for name in scale.experiments:
        if name not in available():
            found.append(f"{scale_file}: experiments: no file {EXPERIMENTS / name}.yaml; "
                         f"there are: {', '.join(available())}")  # fmt: skip
    numerics = _numerics(scale, scale_name)
    read: dict[str, Experiment] = {}
    left_out: dict[str, list[str]] = {}
    drafts: list[Draft] = []
    planner = _Planner(scale_file, scale, numerics, dict(overrides or {}))
    try:
        planner.taken(scale.measures, f"{scale_file}: measures")
    except InputError as error:
        raise InputError(*found, *error.problems) from None
    for name in experiments if experiments is not None else available():
        path = EXPERIMENTS / f"{name}.yaml"
        try:
            if not re.fullmatch(NAME_PATTERN, name) or name in RESERVED or name.startswith(GENERATED):
                rules = ", ".join(sorted((*RESERVED, *(f"{one}…" for one in GENERATED))))
                raise InputError(f"{path}: name: {NAMES}, and none of {rules}")
            text = _text(path)
            try:
                experiment = yaml_file.validated(Experiment, text, str(path))
            except InputError as error:
                raise InputError(*error.problems, *planner.problems_of_arms(path, text)) from None
        except InputError as error:
            found.extend(problem for problem in error.problems if problem not in found)
            continue
        try:
            planned = planner.expand(name, path, experiment)
            apart = planner.apart(name, path, experiment)
            for one, made in apart.items():
                planned += planner.expand(one, path, made)
        except InputError as error:
            if experiments is None and name not in scale.experiments:
                left_out[name] = list(error.problems)
            else:
                found.extend(problem for problem in error.problems if problem not in found)
            continue
        read |= {name: experiment, **apart}
        drafts += planned
    if experiments is None and drafts:  # one experiment alone may keep none
        of = (draft.run for draft in drafts)
        found += checks.over_training(f"{scale_file}: measures", of, scale.measures)
    if found:
        raise InputError(*found)
    stated = {name: planner.stated[name] for name in read}
    taken = {name: planner.taken(one, "") for name, one in stated.items()}
    cells, runs = _named(drafts, numerics)
    return Study(scale_name, scale, numerics, read, runs, cells, stated, taken, left_out)


class Draft(NamedTuple):
    """Runs of an arm, before anything is known of the bits of the code."""

    experiment: str
    arm: str
    seeds: list[int]
    run: Run
    data: Data
    plugins: dict[str, str]


def _named(drafts: Sequence[Draft], numerics: Numerics) -> tuple[list[Cell], dict[str, PlannedRun]]:
    """The index of a study, and its runs by their digests."""
    runs: dict[str, PlannedRun] = {}
    cells: list[Cell] = []
    codes = golden.codes(numerics, [(draft.run, draft.plugins) for draft in drafts])
    changes = accepted.read()
    for (experiment, arm, each, run, data, own), code in zip(drafts, codes, strict=True):
        called, why = changes.get(code, (code, None))
        for seed in each:
            config = run.model_copy(update={"seed": seed})
            draft = PlannedRun("", config, numerics, data, called, own, why)
            final = replace(draft, digest=identity.digest(draft.record()))
            cells.append(Cell(experiment, arm, seed, final.digest, untrained_digest(final.record())))
            runs[final.digest] = final
    return cells, runs


def _text(path: Path) -> dict[str, Any]:
    """What an experiment file says, over the file that it `extends`; `base` and `measures` key by key."""
    text = yaml_file.read(path, f"there are: {', '.join(available())}")
    if "extends" not in text:
        return text
    name, others = text.pop("extends"), ", ".join(one for one in available() if one != path.stem)
    if name not in available() or name == path.stem:
        raise InputError(f"{path}: extends: no other experiment is called {name!r}; there are: {others}")
    first = yaml_file.read(EXPERIMENTS / f"{name}.yaml")
    if "extends" in first:
        raise InputError(f"{path}: extends: {name} extends {first['extends']} itself; extend that one")
    both = [
        key
        for key in ("base", "measures")
        if isinstance(first.get(key), dict) and isinstance(text.get(key), dict)
    ]
    return first | text | {key: yaml_file.merge(first[key], text[key]) for key in both}


def _numerics(scale: Scale, scale_name: str) -> Numerics:
    path = RESULTS / scale_name / "numerics.json"
    if not path.exists():
        if scale.numerics is None:
            return devices.detect(scale.compile)
        return devices.completed(scale.numerics, scale.compile)
    remedy = f"it fixes the numerics of this study; restore it, or delete {path.parent} to begin anew"
    fixed = yaml_file.validated(Numerics, read_json(path, remedy), str(path))
    file = f"{EXPERIMENTS}/scales/{scale_name}.yaml"
    otherwise = "or copy the scale file to a new name, which is another study"
    stated = scale.numerics and devices.completed(scale.numerics, scale.compile, fixed)
    if stated is not None and stated != fixed:
        raise InputError(
            f"{file}: numerics: {stated.model_dump()} differ from "
            f"{fixed.model_dump()}, which this study began with ({path}); take them back, {otherwise}"
        )
    # The reverse is no contradiction: it asks for compiled steps where the machine that began could make them.
    left_open = scale.numerics is None or "path" not in scale.numerics.model_fields_set
    if left_open and not scale.compile and fixed.path == "compiled":
        raise InputError(
            f"{file}: compile: is false, and this study began with compiled steps ({path}); take it back, "
            f"{otherwise}"
        )
    return fixed


@dataclass
class _Planner:
    scale_file: Path
    scale: Scale
    numerics: Numerics
    overrides: dict[str, Any]
    stated: dict[str, Measures] = field(default_factory=dict)
    """How each experiment is measured."""
    _taken: dict[str, list[Measured]] = field(default_factory=dict)
    _data: dict[tuple[str, Vocabulary, str | None], Data] = field(default_factory=dict)

    def expand(self, name: str, path: Path, experiment: Experiment) -> list[Draft]:
        """Every arm of an experiment; all problems of the file at once."""
        resolved, found = self._arms(path, experiment.base, experiment.arms, experiment)
        merged = yaml_file.merge(self.scale.measures.model_dump(exclude_unset=True), experiment.measures)
        merged = {name: asked for name, asked in merged.items() if asked is not None}
        if "over_training" not in experiment.measures:  # what is not measured is not measured on the way either
            merged["over_training"] = [one for one in merged.get("over_training", []) if one in merged]
        try:
            stated = yaml_file.validated(Measures, merged, str(path), "measures")
        except InputError as error:
            raise InputError(*found, *error.problems) from None
        stated = self.stated[name] = measured.with_arms(stated, resolved)
        if not self.overrides:  # a change on the command line may make arms alike, and shorten runs to try them
            if experiment.contrasts is not None:  # trials of arms that differ in their rates may meet
                found += checks.duplicates(path, resolved)
            for check in (checks.reachable, checks.corruptible, checks.within_windows):
                found += check(path, resolved, stated)
            found += checks.varies(path, experiment, resolved)
            if "over_training" in experiment.measures:
                found += checks.over_training(f"{path}: measures", resolved.values(), stated)
        kinds = measured.kinds_of_pairs(self.taken(stated, f"{path}: measures"))
        known = {arm: measured.names(run, stated, kinds) for arm, run in resolved.items()}
        own_pairs = stated.pairs is not None and stated.pairs.file is None
        found += checks.contrasts(path, experiment, resolved, known, own_pairs)
        kept = [word for one in stated.over_training for word in measured.first_words(one, stated)]
        arms, primary = list(experiment.arms), experiment.primary_measure
        found += figures.problems(str(path), experiment.figures, primary, arms, resolved, known, kept)
        if found:
            raise InputError(*found)
        seeds = self._seeds(experiment)
        return [
            Draft(name, arm, seeds, run, self.data(run), plugins.digests(run)) for arm, run in resolved.items()
        ]

    def apart(self, name: str, path: Path, experiment: Experiment) -> dict[str, Experiment]:
        """An experiment's trials of learning rates and its pilot, as experiments, on seeds of their own."""
        made: dict[str, Experiment] = {}
        taken = {"the contrasts": self._seeds(experiment)}
        if tune := experiment.tune:
            _own(path, "tune.seeds", tune.seeds, taken, "rates are to be chosen")
            made[name + TUNE] = trials(experiment, tune)
            taken["`tune`"] = tune.seeds
        if experiment.pilot:
            _own(path, "pilot", experiment.pilot, taken, "the spread is to be estimated")
            made[name + PILOT] = pilot(experiment)
        for one in made:
            if (same := EXPERIMENTS / f"{one}.yaml").exists():
                raise InputError(f"{same}: has the name of what {path} runs as {one}; rename one")
        return made

    def taken(self, stated: Measures, where: str) -> list[Measured]:
        """The measures that are asked for, as files; those asked for alike are looked up once."""
        key = stated.model_dump_json()
        if key not in self._taken:
            self._taken[key] = measured.of(stated, where)
        return self._taken[key]

    def _seeds(self, experiment: Experiment) -> list[int]:
        # Of fewer seeds there is no pilot.
        most = None if isinstance(experiment, Pilot) else self.scale.seeds_at_most
        return seeds(experiment.seeds, self.scale.seeds_at_least, most)

    def problems_of_arms(self, path: Path, text: Mapping[str, Any]) -> list[str]:
        """What is wrong with the arms of a file whose other keys are wrong already."""
        base, arms = text.get("base", {}), text.get("arms")
        if not isinstance(base, dict) or not isinstance(arms, dict):
            return []
        return self._arms(path, base, {arm: c for arm, c in arms.items() if isinstance(c, dict)}, None)[1]

    def _arms(
        self,
        path: Path,
        base: dict[str, Any],
        arms: Mapping[str, dict[str, Any]],
        experiment: Experiment | None,
    ) -> tuple[dict[str, Run], list[str]]:
        """Arm -> run, without its seed; and what is wrong with the others."""
        resolved: dict[str, Run] = {}
        found: list[str] = []
        stated: dict[str, Any] = {}
        for arm, given in arms.items():
            changes = dict(given)
            stated[arm] = changes.pop("match", experiment.match if experiment else None)
            layers: Layers = [
                (self.scale_file, "run", self.scale.run),
                (path, "base", base),
                (path, f"arms.{arm}", changes),
                (Path("--set"), "", self.overrides),
            ]
            try:
                run = resolve(layers)
                plugins.check(run, partial(place, layers))
                problems = list(checks.sentences(place(layers, "objective"), run, self.data(run).shards))
                if problems := problems + checks.shared(place(layers, "batch_size"), run, self.numerics):
                    raise InputError(*problems)
            except InputError as error:
                told = (_told_where(layers, problem) for problem in error.problems)
                found.extend(problem for problem in told if problem not in found)
            else:
                resolved[arm] = run
        if experiment and experiment.baseline in resolved:
            for arm, run in resolved.items():
                try:
                    resolved[arm] = matching.matched(run, resolved[experiment.baseline], stated[arm])
                except InputError as error:
                    found += [f"{path}: arms.{arm}: {problem}" for problem in error.problems]
        return resolved, found

    def data(self, run: Run) -> Data:
        """Folders of a run's corpus, vocabulary and shards, named by what decides their content."""
        key = (run.corpus, run.vocabulary, run.tokenizer)
        if key not in self._data:
            file = EXPERIMENTS / "corpora" / f"{run.corpus}.yaml"
            known = next((data.corpus for data in self._data.values() if data.corpus_file == file), None)
            source = known.name if known else f"{run.corpus}-{_corpus_digest(file)}"
            if run.tokenizer is None:
                kind = f"{run.vocabulary.kind}-{run.vocabulary.size}"
                made: Any = [
                    run.vocabulary.model_dump(),
                    identity.code_hash(("mlm.vocabulary",), ("sentencepiece",)),
                ]
            else:
                kind, made = "huggingface", hugging_face_tokenizer.digest(run.tokenizer)
            pieces = identity.digest([source, made])
            shards = identity.digest([pieces, identity.code_hash(("mlm.shards",))])
            root = RESULTS / "data"
            self._data[key] = Data(
                corpus_file=file,
                corpus=root / "corpora" / source,
                vocabulary=root / "vocabularies" / f"{run.corpus}-{kind}-{pieces}" / "vocabulary.model",
                shards=root / "shards" / f"{run.corpus}-{kind}-{shards}",
            )
        initial = hugging_face.weights_digest(run.init_from) if run.init_from else None
        return replace(self._data[key], initial=initial)


def _told_where(layers: Layers, problem: str) -> str:
    """A problem of a folder that a run names, with the file that says so."""
    key, _, what = problem.partition(": ")
    return f"{place(layers, key)}: {what}" if key in ("tokenizer", "init_from") else problem


def _own(path: Path, key: str, seeds: Sequence[int], taken: Mapping[str, Sequence[int]], why: str) -> None:
    """Refuse seeds that something else uses too."""
    for what, theirs in taken.items():
        if both := sorted({*seeds} & {*theirs}):
            raise InputError(
                f"{path}: {key}: {both[0]} is a seed of {what} too, and {why} on seeds that nothing else uses; "
                "take others"
            )


def _corpus_digest(file: Path) -> str:
    modules = ("corpus", "division", "sources", "archives", "cleaning", "prose", "duplicates")
    code = identity.code_hash(tuple(f"mlm.{name}" for name in modules))
    return identity.digest([checks.divided(file).identity(file), code])
