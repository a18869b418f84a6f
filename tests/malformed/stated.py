"""Malformed files that a person writes: experiments, scales, corpora, tasks, and the settings of a start."""

import json
from collections.abc import Iterable, Iterator

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
