"""What is wrong with an experiment whose keys are all right by themselves. Loads no torch."""

import difflib
import fnmatch
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlm import corpus, matching, measures, reach, schedules, yaml_file
from mlm.config import Masking, Numerics, Optimizer, Run, Span
from mlm.corpus import Corpus
from mlm.errors import InputError
from mlm.experiment import Equivalence, Experiment, Measures, Trials
from mlm.files import read_json

OF_THE_RUNS_TEXT = ("validation.", "test.", "train.", "reach.", "radius.", "corruption.")
"""Beginnings of measures that are taken on windows of the run's own text, in its own pieces."""


def sentences(where: str, run: Run, shards: Path) -> Iterator[str]:
    """An objective of sentence pairs on text without sentence boundaries, once the shards are there."""
    header = shards / "shards.json"
    if run.relation is None or not header.exists():
        return
    for split, counts in read_json(header, f"delete {shards} and run again")["splits"].items():
        if counts["lines"] == counts["documents"]:
            yield (
                f"{where}: {run.objective} reads pairs of lines, and no document of corpus {run.corpus}, "
                f"{split} split, has two; write a sentence a line, or choose another objective"
            )


def divided(path: Path) -> Corpus:
    """A corpus file, read, none of whose documents is named for both splits.

    Raises:
        InputError: one is, and the first split would have it; or the file is wrong otherwise.
    """
    stated, found = corpus.load(path), []
    parts = {
        "split": stated.split,
        **{f"sources.{n}.split": part.split for n, part in enumerate(stated.sources)},
    }
    for key, division in parts.items():
        validation, test = (division.validation, division.test) if division else ([], [])
        if not isinstance(validation, list) or not isinstance(test, list):
            continue
        for name in dict.fromkeys(test):
            if taken := [one for one in validation if fnmatch.fnmatchcase(name, one)]:
                found.append(
                    f"{path}: {key}.test: {name!r} is in {key}.validation too"
                    + ("" if taken[0] == name else f", by {taken[0]!r}")
                    + "; hold it out for one of them"
                )
    if found:
        raise InputError(*found)
    return stated


def shared(where: str, run: Run, numerics: Numerics) -> list[str]:
    """Whether the processes of a run can share its batches evenly."""
    if run.batch_size % numerics.processes == 0:
        return []
    return [
        f"{where}: {run.batch_size} sequences cannot be shared evenly by {numerics.processes} processes (the "
        "scale's `numerics.processes`); give a multiple"
    ]


def reachable(path: Path, resolved: Mapping[str, Run], stated: Measures) -> Iterator[str]:
    """Arms in which no held-out loss can be reached, where that is measured."""
    if stated.reach is None:
        return
    for arm, run in resolved.items():
        if problem := reach.problem(run) or reach.out_of_range(run, stated.reach):
            yield f"{path}: arms.{arm}: for measures.reach, {problem}; or leave `reach` out"


def corruptible(path: Path, resolved: Mapping[str, Run], stated: Measures) -> Iterator[str]:
    """Arms that corrupt nothing, and corruptions called as an arm is, where every arm's is measured."""
    if stated.corruptions is None:
        return
    for arm, run in resolved.items():
        if not run.corrupts:
            yield (
                f"{path}: arms.{arm}: objective {run.objective} corrupts nothing that it predicts, and "
                "measures.corruptions asks for the loss under every arm's corruption; make it an experiment of "
                "its own, or leave `corruptions` out"
            )
        other = stated.corruptions.arms.get(arm)
        if other is not None and other != schedules.masking(run.masking, 1.0):
            yield (
                f"{path}: arms.{arm}: measures.corruptions.arms has another corruption of this name; rename "
                "that one, the arm's is there by itself"
            )


def within_windows(path: Path, resolved: Mapping[str, Run], stated: Measures) -> Iterator[str]:
    """Arms whose windows are too short for a distance of the radius, or that predict no tokens."""
    if stated.radius is None:
        return
    longest = max(stated.radius.distances)
    for arm, run in resolved.items():
        if not run.predicts_tokens:
            yield (
                f"{path}: arms.{arm}: objective {run.objective} predicts no tokens, which measures.radius asks "
                "for; make it an experiment of its own, or leave `radius` out"
            )
        if longest >= run.sequence_length:
            yield (
                f"{path}: arms.{arm}: measures.radius.distances: {longest} is no distance in a window of "
                f"sequence_length {run.sequence_length}; give only shorter ones, or leave `radius` out"
            )


def over_training(where: str, runs: Iterable[Run], stated: Measures) -> Iterator[str]:
    """Measures over training where no run keeps weights on the way."""
    if stated.over_training and not any(run.kept_steps for run in runs):
        yield (
            f"{where}.over_training: no run keeps weights on the way; give `checkpoints_at` in `run:` or to an "
            "arm, or leave this out"
        )


def varies(path: Path, experiment: Experiment, resolved: Mapping[str, Run]) -> Iterator[str]:
    """Arms that differ in more than the experiment says that its question is about."""
    if experiment.varies is None:
        return
    every = {arm: yaml_file.flat(run.model_dump(exclude={"seed"})) for arm, run in resolved.items()}
    baseline = every.get(experiment.baseline)
    if baseline is None:
        return
    keys = {key for flat in every.values() for key in flat}
    for asked in experiment.varies:
        if not any(_under(key, asked) for key in keys):
            yield f"{path}: varies: no key of a run is called {asked!r}; write it as in `base:`, with points"
    for arm, flat in every.items():
        if more := [
            key
            for key in sorted(differing(flat, baseline))
            if not any(_under(key, asked) for asked in experiment.varies)
        ]:
            yield (
                f"{path}: arms.{arm}: differs from {experiment.baseline} in {more[0]} "
                f"({flat.get(more[0])!r} and {baseline.get(more[0])!r}), which `varies:` does not name; "
                "take the change back, or say there that the arms differ in it"
            )


def _under(key: str, asked: str) -> bool:
    return key == asked or key.startswith(f"{asked}.") or asked.startswith(f"{key}.")


def duplicates(path: Path, resolved: Mapping[str, Run]) -> Iterator[str]:
    """Arms that ask for the same runs, or for runs that differ in what has no effect alone."""
    first: dict[str, str] = {}
    for arm, run in resolved.items():
        same = first.setdefault(_in_effect(run).model_dump_json(), arm)
        if same == arm:
            continue
        if idle := sorted(differing(*(yaml_file.flat(one.model_dump()) for one in (run, resolved[same])))):
            yield (
                f"{path}: arms.{arm}: differs from arms.{same} in {', '.join(idle)} alone, which changes "
                "no weight (a span without `unit: span`, the shape of a decay of no tokens, what is logged or "
                "kept); change something that does, or remove an arm"
            )
        else:
            yield f"{path}: arms.{arm}: asks for the same runs as arms.{same}; change or remove one"


def _in_effect(run: Run) -> Run:
    """The run with what changes none of its weights as it is by default.

    A span is told to a strategy of the user's in any case. Attention that is as wide as the sequence is no such
    key: what reads sentences gives the encoder longer ones.
    """
    masking, optimizer = run.masking, run.optimizer
    if masking.unit != "span" and masking.strategy is None:
        masking = masking.model_copy(update={"span": Span()})
    if not optimizer.decay_tokens:
        optimizer = optimizer.model_copy(update={"decay_shape": Optimizer().decay_shape})
    told = {key: Run.model_fields[key].default for key in ("log_every_tokens", "checkpoints_at")}
    return run.model_copy(update={"masking": masking, "optimizer": optimizer, **told})


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """The dotted keys in which two runs differ, both flat."""
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def contrasts(
    path: Path,
    experiment: Experiment,
    resolved: Mapping[str, Run],
    known: Mapping[str, Sequence[str]],
    own_pairs: bool = True,
) -> Iterator[str]:
    """Contrasts that cannot be taken: of arms or of measures that do not exist, or stated twice.

    Args:
        known: arm -> every value that is measured of its runs.
        own_pairs: whether minimal pairs are made of words of the run's own vocabulary.
    """
    arms = ", ".join(experiment.arms)
    if experiment.baseline not in experiment.arms:
        yield f"{path}: baseline: no arm is called {experiment.baseline!r}; there are: {arms}"
    seen: dict[tuple[str, frozenset[str], str], str] = {}
    told: set[tuple[str, str]] = set()
    if isinstance(experiment, Trials):
        yield from _tuning(path, experiment, known)
    for _, where, contrast in experiment.contrasts.stated() if experiment.contrasts else ():
        claim = "equivalence" if isinstance(contrast, Equivalence) else "difference"
        key = f"{path}: contrasts.{where}"
        against = contrast.against or experiment.baseline
        measure = contrast.measure or experiment.primary_measure
        # Whichever arm comes first, and whether baseline and measure are spelled: one more makes p's larger.
        compared = (claim, frozenset((contrast.arm, against)), measure)
        if (first := seen.setdefault(compared, where)) != where:
            yield f"{key}: says the same as contrasts.{first}; remove one"
        for role, named in (("arm", contrast.arm), ("against", contrast.against)):
            if named is not None and named not in experiment.arms:
                yield f"{key}.{role}: no arm is called {named!r}; there are: {arms}"
        if contrast.arm == against:
            yield f"{key}: compares {against} with itself; name another arm"
        if (
            isinstance(contrast, Equivalence)
            and contrast.margin >= 1
            and _is_share(measure, known.get(contrast.arm, ()))
        ):
            yield (
                f"{key}.margin: is {contrast.margin:g}, and {measure} is a share, of which no two are further "
                "apart than 1; give one below it, .02 for two points"
            )
        one, other = resolved.get(contrast.arm), resolved.get(against)
        if one is not None and other is not None:
            found = _incomparable(measure, one, other, own_pairs)
            if found := found or _budgets(measure, experiment, contrast.arm, against, resolved):
                yield f"{key}: {found}"
        source = f"{key}.measure" if contrast.measure else f"{path}: primary_measure"
        for arm in (contrast.arm, against):
            if arm in known and (problem := _measure(measure, known[arm])):
                if (source, measure) not in told:
                    yield f"{source}: {problem}"
                told.add((source, measure))
                break


def _tuning(path: Path, experiment: Trials, known: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """A measure by which no learning rate can be chosen, or none should."""
    measure, key = experiment.primary_measure, f"{path}: tune.measure"
    if measure.startswith("test."):
        validation = f"validation.{measure.partition('.')[2]}"
        yield f"{key}: {measure} is of the text that contrasts are judged on; choose rates by {validation}"
    for tried, names in known.items():
        if problem := _measure(measure, names):
            yield f"{key}: {problem} ({tried})"
            break


def _budgets(
    measure: str, experiment: Experiment, arm: str, against: str, resolved: Mapping[str, Run]
) -> str | None:
    """Why two arms were not trained for as long as the experiment says.

    What a loss costs (`reach`) is asked on the way there: a budget is where it is no longer waited for.
    """
    matched = {experiment.arms[one].get("match", experiment.match) for one in (arm, against)}
    told = any(_under("budget_tokens", key) for key in experiment.varies or ())
    if "flops" in matched or told:
        return None
    one, other = resolved[arm], resolved[against]
    if measure.startswith("reach."):
        ends = [schedules.trunk_tokens(run) for run in (one, other)]
        if not measure.endswith(".censored") or ends[0] == ends[1]:
            return None  # what a loss costs is compared within the shorter one
        return (
            f"{measure} counts runs that did not come down before the learning rate decays, after {ends[0]} "
            f"tokens in one and {ends[1]} in the other; compare its `.tokens`"
        )
    if one.budget_tokens == other.budget_tokens:
        return None
    return (
        f"{arm} is trained on {one.budget_tokens} tokens and {against} on {other.budget_tokens}, with "
        "`match: tokens`; give both one `budget_tokens`, `match: flops`, or name budget_tokens in `varies:`"
    )


def _incomparable(measure: str, one: Run, other: Run, own_pairs: bool) -> str | None:
    """Why two arms' values of a measure are of different things."""
    if measure == measures.BITS_PER_BYTE and one.corpus != other.corpus:
        return f"{measure} is of the text of corpus {one.corpus} and of {other.corpus}; compare on one corpus"
    pieces = {(run.corpus, run.tokenizer or str(run.vocabulary)) for run in (one, other)}
    if measure.startswith("pairs.") and len(pieces) > 1 and (own_pairs or measure.endswith(".loss_nats")):
        return (
            f"{measure} is of pairs that each vocabulary has of its own, or of its pieces; compare within one"
        )
    if not measure.startswith(OF_THE_RUNS_TEXT):
        return None
    if len(pieces) > 1:
        return f"{measure} is counted in pieces of different vocabularies; compare what does not depend on them"
    if one.sequence_length != other.sequence_length:
        return (
            f"{measure} is evaluated at {one.sequence_length} and at {other.sequence_length} tokens; give both "
            "arms one sequence_length, and `lengths:` for what they are trained on"
        )
    stretches = [run.stretch or run.sequence_length for run in (one, other)]
    if _cut_as_trained(measure) and stretches[0] != stretches[1]:
        return (
            f"{measure} is evaluated on stretches of {stretches[0]} and of {stretches[1]} tokens; give both "
            "arms one `stretch`, or compare on the yardstick"
        )
    own = measure.startswith(tuple(f"{part}.own." for part in measures.SPLITS))  # an arm may be called so, too
    judged = own and ".relation." in measure
    if one.relation != other.relation and (own or measure.startswith("reach.unigram-")):
        remedy = "leave it out" if judged else "compare on the yardstick"
        return f"{measure} is on {_sequences(one)} and on {_sequences(other)}; {remedy}"
    if measure.startswith("reach.") and (problem := _asked_otherwise(one, other) or _at_once(measure, one)):
        return f"{measure} {problem}"
    if (
        measure.startswith("reach.unigram-")
        and one.causal == other.causal
        and _corruption(one) != _corruption(other)
    ):
        return (
            f"{measure} is under each arm's own corruption, and these arms have different ones, under which "
            "the same model has another loss; compare on the yardstick (`reach.LOSS`)"
        )
    if own and _corruption(one) != _corruption(other):
        said = f"{measure} is under each arm's own corruption, and these arms have different ones; compare "
        if judged:
            return said + "arms that corrupt alike"
        elsewhere = "under one arm's (`corruption.ARM`, with `corruptions: {}` in `measures:`)"
        return f"{said}on the yardstick, or {elsewhere}"
    return None


def _asked_otherwise(one: Run, other: Run) -> str | None:
    """Why a loss that two arms come down to is not seen in both alike, however they learn."""
    if one.curve != other.curve:
        first, second = ((c.every_tokens, c.sequences) for c in (one.curve, other.curve))
        return (
            f"is read off held-out losses that are taken otherwise (every {first[0]} tokens on {first[1]} "
            f"sequences, and every {second[0]} on {second[1]}); give both arms one `curve`"
        )
    return None


def _at_once(measure: str, run: Run) -> str | None:
    """Why a loss is none to come down to: a run begins with that of drawing lots among its pieces."""
    level, pieces = re.fullmatch(r"reach\.(\d+(?:\.\d+)?(?:e[+-]?\d+)?)\.\w+", measure), matching.pieces(run)
    if level is None or float(level[1]) < math.log(pieces):
        return None
    return (
        f"asks for a loss that a run begins with: that of drawing lots among {pieces} pieces is "
        f"{math.log(pieces):.2f}; ask for less"
    )


def _sequences(run: Run) -> str:
    """What a run's own evaluation reads."""
    return f"sentence pairs of {run.relation}" if run.relation else "windows of text"


def _corruption(run: Run) -> tuple[Masking, bool]:
    """What a run is evaluated under as its own, however many are predicted, and whether from the left."""
    return schedules.masking(run.masking, 1.0).model_copy(update={"predicted": 1.0}), run.causal


def _cut_as_trained(measure: str) -> bool:
    """Whether a measure of the run's text is taken on the stretches that the run is trained on."""
    first, what, *_ = measure.split(".")
    return what == "own" or what.startswith("unigram-") or first in ("train", "radius", "corruption")


def _is_share(measure: str, known: Sequence[str]) -> bool:
    """Whether the values of a measure lie between 0 and 1; of a plug-in's, known by `*`, nobody knows."""
    return measure in known and measure.endswith(("accuracy", ".censored", ".begun"))


def _measure(name: str, known: Sequence[str]) -> str | None:
    if measures.known(name, known):
        return None
    if name == measures.BITS_PER_BYTE:
        return (
            f"{name} exists only for causal arms, since masked losses are no likelihood of a text; compare two "
            "of those, with `bits_per_byte: {}` in `measures:`"
        )
    match name.split("."):
        case [part, "own", *_] if (
            f"{part}.own.loss_nats" not in known and f"{part}.own.relation.accuracy" in known
        ):
            return f"{name} does not exist for an arm whose objective predicts no tokens"
        case [part, "own", kind, _] if f"{part}.own.loss_nats" in known:
            if kind == "relation":
                return f"{name} does not exist for an arm whose objective has no sentence pairs"
            if kind in measures.KINDS:
                return f"{name} does not exist for an arm whose split has no {kind} tokens"
    near = difflib.get_close_matches(name, known, 3)
    hint = f"near are: {', '.join(near)}; " if near else ""
    return f"no measure is called {name!r}; {hint}what is measured is switched on in `measures:` of the scale"
