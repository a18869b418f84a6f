"""What a study measures: from the scale's `measures:` to names of values, files and data. Loads no torch."""

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mlm import brown, grammar, identity, measures, plugins, schedules, tasks
from mlm.config import Run
from mlm.errors import InputError
from mlm.experiment import Measures, Pairs
from mlm.files import file_sha256
from mlm.layout import RESULTS

ENCODER = ("mlm.block", "mlm.encoder", "mlm.model", "mlm.randomness", "mlm.schedules", "mlm.devices")
"""The modules that decide what a run's encoder makes of tokens."""
READER = ("mlm.vocabulary", *ENCODER)
"""Those that decide what it makes of words."""
FROZEN = (*READER, "mlm.batches", "mlm.sentence_pairs", "mlm.selection", "mlm.masking", "mlm.objectives",
          "mlm.evaluate")  # fmt: skip
"""Those that decide its losses on frozen masks."""
CODE: dict[str, tuple[str, ...]] = {
    "evaluation": ("mlm.heldout", *FROZEN),
    "probe": ("mlm.probe", "mlm.brown", *READER),
    "pairs": ("mlm.pairs", "mlm.likelihood", "mlm.reach", *READER),
    "tasks": ("mlm.sentence_probe", "mlm.probe", "mlm.tasks", *READER),
    "finetune": ("mlm.finetune", "mlm.sentence_probe", "mlm.tasks", "mlm.optimizer", *READER),
    "reach": ("mlm.reach", "mlm.schedules"),
    "corruptions": ("mlm.corruptions", *FROZEN),
    "radius": ("mlm.radius", *FROZEN),
    "bits_per_byte": ("mlm.bits", *FROZEN),
    "plugins": ("mlm.probe", "mlm.likelihood", "mlm.sentence_probe", *READER),  # what they are likely to call
}
"""Kinds of measures, each with the modules that decide its numbers."""
OF_UNTRAINED = ("probe", "pairs", "tasks", "plugins")
"""Kinds for which the encoder before its first step is a reference."""


@dataclass(frozen=True)
class Measured:
    """A measure that is taken of every run of a study."""

    name: str
    """`probe`; of several of a kind `tasks.trec`."""
    file: str
    """In a run's folder; its settings, data and code are part of the name."""
    code: str
    """Digest of the code by which it is to be taken."""
    settings: Any
    prepared: str | None
    """File that it reads beside the run, where a rule prepares one; `{vocabulary}` is the run's."""
    over_training: bool
    """Whether it is also taken of the weights that a run keeps on the way."""
    kinds: tuple[str, ...] = ()
    """Of `pairs`: the kinds of pairs that there are."""
    preparing: str = ""
    """What the command that prepares the file is told beside its folder."""
    _told: dict[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Vocabulary -> the part of `words` that is the same for all of its runs, which may be thousands."""

    @property
    def of_untrained(self) -> bool:
        return kind(self.name) in OF_UNTRAINED

    def data(self, vocabulary: str) -> str | None:
        """The prepared file for runs of a vocabulary, which is named by its folder."""
        return self.prepared and self.prepared.format(vocabulary=vocabulary)

    def words(self, folder: str, vocabulary: str) -> str:
        """What `python -m mlm measure` is told, to write the measure into a folder."""
        if vocabulary not in self._told:
            self._told[vocabulary] = self._words_of_all(vocabulary)
        return shlex.join(["--take", f"{self.name}={folder}/{self.file}"]) + f" {self._told[vocabulary]}"

    def given(self, vocabulary: str) -> Any:
        """What it is told of a run of a vocabulary: a file, settings, or both by name."""
        data = self.data(vocabulary)
        return {"data": data, **self.settings} if data and self.settings else data or self.settings

    def _words_of_all(self, vocabulary: str) -> str:
        setting = yaml.safe_dump(self.given(vocabulary), default_flow_style=True, width=2**16).splitlines()[0]
        said = ["--with", f"{self.name}={setting}"]
        return shlex.join(said + (["--over-training", self.name] if self.over_training else []))


def together(measures: Iterable[Measured]) -> str:
    """What measures that are taken together are called."""
    return identity.digest([one.file for one in measures])[:8]


def planned_code(measures: Iterable[Measured]) -> str:
    """What `python -m mlm measure` is told of the code by which measures were planned."""
    return shlex.join(word for one in measures for word in ("--planned", f"{one.name}={one.code}"))


def kind(name: str) -> str:
    """The key of the scale file that asks for a measure: `tasks` of `tasks.trec`."""
    return name.partition(".")[0]


def of(stated: Measures, where: str) -> list[Measured]:
    """The measures that a scale asks for.

    Raises:
        InputError: the data of one are not there, or a probe of the user's own is none; begins with `where`.
    """
    found, problems = [], []
    for name, settings in _asked(stated):
        kinds: tuple[str, ...] = ()
        try:
            if name == "pairs" and stated.pairs:
                kinds = _kinds(stated.pairs)
            prepared, preparing = _prepared(name, stated)
            if kind(name) == "plugins":
                plugins.check_probe(settings, name.partition(".")[2], _own_code(name))
            taken_by = code(name, settings)
        except InputError as error:
            key = "pairs.file" if name == "pairs" else kind(name)
            problems += [f"{where}.{key}: {problem}" for problem in error.problems]
            continue
        over = kind(name) in stated.over_training
        file = f"{name}-{identity.digest([settings, taken_by, prepared, over])}.json"
        found.append(
            Measured(name, file, identity.digest(taken_by), settings, prepared, over, kinds, preparing)
        )
    if problems:
        raise InputError(*problems)
    return found


def code(name: str, settings: Any) -> list[Any]:
    """What decides a measure's numbers beside data and settings: its modules, and what of the user's it calls.

    Args:
        settings: as `Measured` has them, or as they are given to the command that takes it.
    """
    found: list[Any] = [_own_code(name)]
    if kind(name) == "plugins":
        found.append(plugins.source_digest(settings))
    if name == "corruptions":
        paths = {arm.get("strategy") for arm in settings["arms"].values()} - {None}
        found += [{path: plugins.source_digest(path)} for path in sorted(paths)]
    return found


def _own_code(name: str) -> str:
    return identity.code_hash(CODE[kind(name)], ("torch", "numpy"))


def with_arms(stated: Measures, runs: Mapping[str, Run]) -> Measures:
    """The measures with the corruption of every arm, as it is at the end of a run, where they are asked for.

    Args:
        runs: arm -> run.
    """
    if stated.corruptions is None:
        return stated
    own = {arm: schedules.masking(run.masking, 1.0) for arm, run in runs.items()}
    filled = stated.corruptions.model_copy(update={"arms": {**own, **stated.corruptions.arms}})
    return stated.model_copy(update={"corruptions": filled})


def _asked(stated: Measures) -> Iterator[tuple[str, Any]]:
    """(name, what it is told beside the data)"""
    if stated.evaluation:
        yield "evaluation", stated.evaluation.sequences
    if stated.probe:
        yield "probe", None
    if stated.pairs:
        yield "pairs", None
    for task in stated.tasks or ():
        yield f"tasks.{task}", None
    if stated.finetune:
        settings = stated.finetune.model_dump(exclude={"tasks"})
        yield from ((f"finetune.{task}", settings) for task in stated.finetune.tasks)
    if stated.reach:
        yield "reach", stated.reach.model_dump(exclude_none=True)
    if stated.corruptions:
        yield "corruptions", stated.corruptions.model_dump()
    if stated.radius:
        yield "radius", stated.radius.model_dump()
    if stated.bits_per_byte:
        yield "bits_per_byte", stated.bits_per_byte.model_dump()
    yield from ((f"plugins.{name}", path) for name, path in stated.plugins.items())


def _prepared(name: str, stated: Measures) -> tuple[str | None, str]:
    """The file that a measure reads, and how it is prepared."""
    data = RESULTS / "data"
    if stated.probe and name == "probe":
        size = stated.probe
        words = ["--train-sentences", str(size.train_sentences), "--test-sentences", str(size.test_sentences)]
        return str(data / "probes" / f"brown-{brown.identity_of(size)}" / "sentences.jsonl"), shlex.join(words)
    if (pairs := stated.pairs) and name == "pairs":
        words = ["--file", pairs.file] if pairs.file else ["--per-kind", str(pairs.per_kind)]
        folder = data / "pairs" / f"{{vocabulary}}-{_identity_of_pairs(pairs)}"
        return str(folder / "pairs.jsonl"), shlex.join(words)
    if kind(name) in ("tasks", "finetune"):
        task = name.partition(".")[2]
        return str(data / "tasks" / f"{task}-{tasks.identity_of(task)}" / "sentences.jsonl"), ""
    return None, ""


def _kinds(pairs: Pairs) -> tuple[str, ...]:
    found = (pair.kind for pair in grammar.read(Path(pairs.file))) if pairs.file else grammar.KINDS
    return tuple(dict.fromkeys(found))


def _identity_of_pairs(pairs: Pairs) -> str:
    files = {str(path): file_sha256(path) for path in grammar.files(Path(pairs.file))} if pairs.file else {}
    return identity.digest([pairs.model_dump(), identity.code_hash(("mlm.grammar",)), files])


def first_words(section: str, stated: Measures) -> Iterable[str]:
    """What the names of a section's values begin with: of `tasks` and `plugins` what they are called."""
    return {"tasks": stated.tasks or (), "plugins": stated.plugins}.get(section, (section,))


def kinds_of_pairs(taken: Iterable[Measured]) -> tuple[str, ...]:
    """Of the minimal pairs; where their file could not be read, any."""
    return next((one.kinds for one in taken if one.name == "pairs"), ("*",))


def names(run: Run, stated: Measures, kinds: Iterable[str]) -> list[str]:
    """Every value that the measures can give of a run, with `*` for what a plug-in alone knows.

    Args:
        kinds: of the minimal pairs, as of `kinds_of_pairs`.
    """
    found: list[str] = []
    layers = ["", *(f".layer_{layer}" for layer in range(run.encoder.layers + 1))]
    if "encoder.architecture" in run.plugins:
        layers = ["", ".layer_*"]  # its own number of them
    if stated.evaluation:
        found += _of_evaluation(run)
    if stated.probe:
        found += [f"probe{layer}.{what}" for layer in layers for what in ("accuracy", "ambiguous_accuracy")]
    if stated.pairs:
        found += ["pairs.accuracy", *(f"pairs.{one}.accuracy" for one in kinds), "pairs.loss_nats"]
    found += [f"{task}{layer}.accuracy" for task in stated.tasks or () for layer in layers]
    if stated.finetune:
        found += [f"finetune.{task}.accuracy" for task in stated.finetune.tasks]
    if stated.reach:
        what = ("tokens", "flops", "censored")
        levels, below = stated.reach.loss_nats or (), stated.reach.below_unigram_nats or ()
        found += [f"{measures.reach(level)}.{one}" for level in levels for one in what]
        found += [f"{measures.below_unigram(n)}.{one}" for n in below for one in (*what, *measures.OBSERVED)]
    if stated.corruptions:
        arms = stated.corruptions.arms
        found += [f"{measures.under(arm)}.{one}" for arm in arms for one in measures.QUANTITIES]
    if stated.radius:
        found += [f"{measures.radius(one)}.loss_nats" for one in (*stated.radius.distances, None)]
    if stated.bits_per_byte and run.causal:
        found.append(measures.BITS_PER_BYTE)
    return found + [f"{name}.*" for name in stated.plugins]


def _of_evaluation(run: Run) -> Iterator[str]:
    split = schedules.masking(run.masking, 1.0).split
    # A strategy of the user's may heed the split or not.
    kinds = [one for one in measures.KINDS if run.masking.strategy or getattr(split, one) > 0]
    own = ["", *(f"{one}." for one in kinds)]
    if run.relation:
        own = [*(own if run.predicts_tokens else []), "relation."]
    for part in measures.SPLITS:
        for corruption, shown in (("yardstick", [""]), ("own", own)):
            yield from (f"{part}.{corruption}.{one}{what}" for one in shown for what in measures.QUANTITIES)
