"""Malformed files that a person writes: experiments, scales, corpora, tasks, and the settings of a start."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from mlm import yaml_file
from mlm.brown import Brown
from mlm.config import Run
from mlm.corpus import Corpus
from mlm.experiment import Experiment, Measures, Scale
from mlm.tasks import Task
from tests.malformed import valid
from tests.malformed.case import Case, written
from tests.malformed.commands import CONFIG
from tests.malformed.schemas import MISSING, Malformed, malformed, placed
from tests.mlm.places import yaml_of

GROUPS = {
    valid.TEST_SCALE: "Scales",
    valid.TRIAL: "Experiments",
    valid.REFERENCE: "Corpora",
    valid.MIXED: "Corpora",
    valid.PACKAGED: "Corpora",
    valid.HUB: "Corpora",
    valid.TASK: "Tasks and probes",
    valid.BROWN: "Tasks and probes",
}
WORDS = {
    valid.TEST_SCALE: (CONFIG, "scale=test"),
    valid.TRIAL: (CONFIG, "scale=test"),
    valid.REFERENCE: ("mlm", "corpus", "reference", "out"),
    valid.MIXED: ("mlm", "corpus", "mixed", "out"),
    valid.PACKAGED: ("mlm", "corpus", "packaged", "out"),
    valid.HUB: ("mlm", "corpus", "hub", "out"),
    valid.TASK: ("mlm", "task", "mine", "out/sentences.jsonl"),
    valid.BROWN: ("mlm", "sentences", "out/sentences.jsonl"),
}
"""File -> the command that reads it."""
YARDSTICK, OWN = "test.yardstick.loss_nats", "test.own.loss_nats"
BPE = {"kind": "bpe", "size": 300}


def _compared(measure: str, **bert: Any) -> dict[str, Any]:
    """A contrast of the arm `bert`, which may differ in anything from the baseline."""
    secondary = [{"arm": "bert", "measure": measure}]
    return {"varies": None, "arms": {"bert": bert}, "contrasts": {"secondary": secondary}}


BETWEEN: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "arms differ in more than `varies` says": ({"varies": ["masking"]}, ("arms.bert", "encoder.", "varies")),
    "`varies` names no key of a run": ({"varies": ["masking", "encoder", "rate"]}, ("varies", "'rate'")),
    "two arms ask for the same runs": ({"arms": {"twin": {}}}, ("arms.twin", "arms.80-10-10")),
    "the budget ends before a loss could count as reached": (
        {"base": {"budget_tokens": 20 * valid.STEP}}, ("arms.80-10-10", "measures.reach", "decay_tokens"),
    ),
    "the budget ends before weights are to be kept": (
        {"base": {"checkpoints_at": [41 * valid.STEP]}}, ("base.checkpoints_at", "budget_tokens"),
    ),
    "a measure on the way, and no weights are kept there": (
        {"base": {"checkpoints_at": []}, "measures": {"over_training": ["probe"]}}, ("measures.over_training",),
    ),
    "a curve over training of what the end alone tells": (
        {"figures": [{"kind": "over", "measure": "pairs.accuracy"}], "measures": {"pairs": {"per_kind": 20}}},
        ("figures.0.measure", "end of a run"),
    ),
    "a curve over training of one layer": (
        {"figures": [{"kind": "over", "measure": "probe.layer_1.accuracy"}]},
        ("figures.0.measure", "probe.accuracy"),
    ),
    "windows are too short for a distance of the radius": (
        {"measures": {"radius": {"distances": [16]}}}, ("arms.80-10-10", "measures.radius.distances"),
    ),
    "an arm corrupts nothing, and the loss under every arm's corruption is asked for": (
        _compared("probe.accuracy", objective="causal"), ("arms.bert", "measures.corruptions"),
    ),
    "a contrast of lengths that differ": (
        _compared(YARDSTICK, sequence_length=8, lengths=None), ("contrasts.secondary.0", "sequence_length"),
    ),
    "a contrast of vocabularies that differ": (
        _compared(YARDSTICK, vocabulary=BPE), ("contrasts.secondary.0", "vocabularies"),
    ),
    "a contrast of minimal pairs in vocabularies that differ": (
        _compared("pairs.accuracy", vocabulary=BPE), ("contrasts.secondary.0", "pairs"),
    ),
    "a contrast of stretches that differ": (_compared(OWN, stretch=4), ("contrasts.secondary.0", "stretch")),
    "a contrast of losses under corruptions that differ": (
        {"contrasts": {"primary": {"measure": OWN}}}, ("contrasts.primary", "corruption", "yardstick"),
    ),
    "a contrast of losses on sentence pairs and on windows": (
        _compared(OWN, objective="mlm+nsp", lengths=None), ("contrasts.secondary.0", "nsp", "yardstick"),
    ),
    "a contrast on what is not measured": (
        {"measures": {"pairs": None}, "primary_measure": "pairs.accuracy"}, ("primary_measure", "`measures:`"),
    ),
    "a contrast of an arm that is not there": (
        {"contrasts": {"primary": {"arm": "bart"}}}, ("contrasts.primary.arm", "'bart'"),
    ),
    "a contrast of an arm with itself": (
        {"contrasts": {"primary": {"arm": "80-10-10"}}}, ("contrasts.primary", "itself"),
    ),
    "a contrast is stated twice": (
        {"contrasts": {"secondary": [{"arm": "bert"}, {"arm": "bert"}]}},
        ("contrasts.secondary.1", "contrasts.secondary.0"),
    ),
    "a contrast is stated a second time, with its baseline and measure spelled": (
        {"contrasts": {"secondary": [{"arm": "80-10-10", "against": "100-0-0", "measure": "probe.accuracy"}]}},
        ("contrasts.secondary.0", "contrasts.primary"),
    ),
    "a margin beyond what shares can differ by": (
        {"contrasts": {"equivalence": [{"arm": "bert", "margin": 2}]}, "varies": None},
        ("contrasts.equivalence.0.margin", "below it"),
    ),
    "a contrast of budgets that differ, with `match: tokens`": (
        _compared(YARDSTICK, budget_tokens=60 * valid.STEP),
        ("contrasts.secondary.0", "match: tokens", "budget_tokens"),
    ),
    "a contrast of when a loss is reached, which is looked at otherwise": (
        _compared("reach.5.5.tokens", curve={"every_tokens": valid.STEP}), ("contrasts.secondary.0", "`curve`"),
    ),
    "a contrast of how many do not come down to a loss, which are waited for otherwise": (
        _compared("reach.5.5.censored", optimizer={"decay_tokens": 0}),
        ("contrasts.secondary.0", "`.tokens`"),
    ),
    "a contrast of when losses under corruptions that differ are reached": (
        {"contrasts": {"primary": {"measure": "reach.unigram-0.5.tokens"}}},
        ("contrasts.primary", "own corruption", "yardstick"),
    ),
    "two arms differ in what has no effect": (
        {"varies": None, "arms": {"twin": {"masking": {"span": {"p": .5}}}}},
        ("arms.twin", "arms.80-10-10", "masking.span.p", "changes no weight"),
    ),
    "a loss to be reached that a run begins with": (
        {"measures": {"reach": {"loss_nats": [9]}}, "contrasts": {"primary": {"measure": "reach.9.tokens"}}},
        ("contrasts.primary", "begins with", "ask for less"),
    ),
    "a learning rate would be chosen by what contrasts are judged on": (
        {"tune": {"measure": OWN}}, ("tune.measure", "validation.own.loss_nats"),
    ),
    "a learning rate would be chosen on a seed of the contrasts": (
        {"tune": {"seeds": [1, 7]}}, ("tune.seeds",),
    ),
    "a spread would be known from a seed of the contrasts": ({"pilot": [1, 21, 22, 23, 24]}, ("pilot",)),
}  # fmt: skip
"""What goes wrong between keys -> what the experiment says instead, and what must be named."""


def keys() -> Iterator[Case]:
    """Every key of every schema, wrong in every way that its type has."""
    scale, trial = valid.SCALE_WITH_ALL, valid.EXPERIMENT_WITH_ALL
    yield from _of(valid.TEST_SCALE, malformed(Scale, scale))
    run = [*malformed(Run, scale["run"], ("run",))]
    # `preset` and `size` stand for what an encoder does not say, and the scale for what an experiment does not.
    yield from _of(
        valid.TEST_SCALE, (one for one in run if one.value is not MISSING or "encoder" not in one.key)
    )
    yield from _of(valid.TRIAL, malformed(Experiment, trial))
    # These two are read as the same sections of a scale are.
    measures = malformed(Measures, scale["measures"], ("measures",))
    of_an_arm = malformed(Run, scale["run"], ("arms", "bert"))
    yield from _of(valid.TRIAL, (one for one in (*measures, *of_an_arm) if one.instead_of))
    for file in (valid.REFERENCE, valid.MIXED):
        yield from _of(file, malformed(Corpus, valid.WHOLE[file]))
    for file in (valid.PACKAGED, valid.HUB):
        within = malformed(Corpus, valid.WHOLE[file])
        yield from _of(file, (one for one in within if one.key[0] == "source"))
    yield from _of(valid.TASK, malformed(Task, valid.TASK_OF_FILES))
    yield from _of(valid.BROWN, malformed(Brown, valid.BROWN_OF_A_PACKAGE))


def between() -> Iterator[Case]:
    """Experiments whose keys are each right by themselves."""
    for what, (instead, named) in BETWEEN.items():
        text = yaml_of(yaml_file.merge(valid.EXPERIMENT_WITH_ALL, instead)).encode()
        shown = f"`{valid.TRIAL}`: {what}: `{json.dumps(instead)}`"
        spoil, words = written(valid.TRIAL, text), WORDS[valid.TRIAL]
        yield Case("Experiments, between their keys", shown, spoil, words, (valid.TRIAL, *named))


def _of(file: str, found: Iterable[Malformed]) -> Iterator[Case]:
    for wrong in found:
        content = placed(valid.WHOLE[file], wrong)
        key = ".".join(str(part) for part in wrong.key)
        text = yaml_of(content).encode()
        what = f"`{file}`: {wrong.how}: `{key}`{_shown(wrong)}"
        named: tuple[str, ...] = (file, key)
        if wrong.instead_of:
            right = (
                "" if wrong.instead_of == "kind" else f"`{wrong.instead_of}`"
            )  # it is told by what it is missed by
            named = (file, ".".join(map(str, wrong.key[:-1])), str(wrong.key[-1]), "did you mean", right)
        elif wrong.how.startswith("an entry"):
            named = (file, key.removesuffix(".0"))  # or of the list as a whole
        if file == valid.TASK and wrong.instead_of == "format":
            named = (file, "`format`")  # without it, a file in that folder is something else
        yield Case(GROUPS[file], what, written(file, text), WORDS[file], named)


def _shown(wrong: Malformed) -> str:
    if wrong.value is MISSING or wrong.instead_of:
        return ""
    return f": `{json.dumps(wrong.value)}`"
