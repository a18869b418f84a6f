"""What the commands measure of one run: its weights at the end, on the way, or before the first step."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console

from mlm import identity, measured, metrics, shards, study, yaml_file
from mlm.errors import Damaged, InputError
from mlm.experiment import BitsPerByte, Corruptions, Evaluation, Finetuning, Radius, Reach
from mlm.files import file_sha256, read_json, write_json
from mlm.layout import RESULTS
from mlm.runs import RunFolder
from mlm.written import ending

if TYPE_CHECKING:
    from mlm.encoder import Encoder


class Wanted(NamedTuple):
    """A measure to take."""

    name: str
    """`probe`, `tasks.trec`: what stands before a point is a key of `TAKEN_BY`."""
    setting: Any
    """What `--with` gives: a number, a file, or several by name."""
    output: Path | None = None
    """Where it is written; else it is shown."""
    over_training: bool = False
    """Whether it is taken of the kept weights too."""
    code: str = ""
    """Digest of the code by which it was planned; unless told, that of today will do."""
    on_the_way: bool = False
    """Whether it is of weights kept before the end, of which the probe reads all layers together alone."""


def evaluation(run: RunFolder, encoder: "Encoder", wanted: Wanted) -> dict[str, Any]:
    """Validation and test under the yardstick and the run's own corruption; told the windows of a split."""
    from mlm import heldout

    data, begins_word = shards.read(run.shards, run.vocabulary), run.tokenizer().begins_word
    return {"values": heldout.measure(encoder, run.config, data, begins_word, _told(wanted).sequences)}


def probe(run: RunFolder, encoder: "Encoder", wanted: Wanted) -> dict[str, Any]:
    """Part of speech on the Brown sentences of a file."""
    from mlm import brown
    from mlm import probe as measure

    return measure.probe(encoder, run.tokenizer(), brown.read(_told(wanted)), each_layer=not wanted.on_the_way)


def pairs(run: RunFolder, encoder: "Encoder", wanted: Wanted) -> dict[str, Any]:
    """Minimal pairs of a file written by `grammar`, or of BLiMP."""
    from mlm import grammar
    from mlm import pairs as measure

    found = grammar.read(_told(wanted))
    tokens = shards.read(run.shards, run.vocabulary)["train"].tokens
    return measure.measure(encoder, run.tokenizer(), found, tokens)


def task(run: RunFolder, encoder: "Encoder", wanted: Wanted) -> dict[str, Any]:
    """A sentence task from frozen features, on the sentences of a file."""
    from mlm import sentence_probe, tasks

    examples = tasks.read(_told(wanted))
    return sentence_probe.measure(encoder, run.tokenizer(), examples, wanted.name.partition(".")[2])


def finetune(run: RunFolder, encoder: "Encoder", wanted: Wanted) -> dict[str, Any]:
    """A sentence task by fine-tuning; told the sentences' file as `data`, and how."""
    from mlm import finetune, tasks

    file, settings = _told(wanted)
    name = wanted.name.partition(".")[2]
    return finetune.measure(encoder, run.tokenizer(), tasks.read(file), name, settings)


def reach(run: RunFolder, encoder: "Encoder", wanted: Wanted) -> dict[str, Any]:
    """What it took to reach the held-out losses that it is told; a list of them is on the yardstick."""
    from mlm import reach

    asked = _told(wanted)
    entropy = 0.0
    if asked.below_unigram_nats:
        training = shards.read(run.shards, run.vocabulary)["train"].tokens
        entropy = reach.unigram_entropy(training, encoder.n_tokens)
    return reach.measure(
        run.config, metrics.read(run.path / "metrics.jsonl"), list(reach.levels(asked, entropy))
    )


def corruptions(run: RunFolder, encoder: "Encoder", wanted: Wanted) -> dict[str, Any]:
    """The test split under the corruptions that it is told, by the names of their arms."""
    from mlm import corruptions

    asked = _told(wanted)
    data, begins_word = shards.read(run.shards, run.vocabulary)["test"], run.tokenizer().begins_word
    return {"values": corruptions.measure(encoder, run.config, data, begins_word, asked)}


def radius(run: RunFolder, encoder: "Encoder", wanted: Wanted) -> dict[str, Any]:
    """The test split with the text beyond the distances that it is told resampled."""
    from mlm import radius

    asked = _told(wanted)
    data = shards.read(run.shards, run.vocabulary)["test"]
    return {"values": radius.measure(encoder, run.config, data, asked)}


def bits_per_byte(run: RunFolder, encoder: "Encoder", wanted: Wanted) -> dict[str, Any]:
    """The likelihood of the beginning of the test split; told its bytes."""
    from mlm import bits

    asked = _told(wanted)
    return bits.measure(encoder, run.config, run.tokenizer(), run.corpus, asked)


def plugin(run: RunFolder, encoder: "Encoder", wanted: Wanted) -> dict[str, Any]:
    """A probe of the user's own, told its Python path."""
    from mlm import plugins

    found = plugins.take_probe(_told(wanted), encoder, run.tokenizer(), run.config, wanted.name)
    return {"values": {f"{wanted.name.partition('.')[2]}.{key}": value for key, value in found.items()}}


TAKEN_BY: "dict[str, Callable[[RunFolder, Encoder, Wanted], dict[str, Any]]]" = {
    "evaluation": evaluation,
    "probe": probe,
    "pairs": pairs,
    "tasks": task,
    "finetune": finetune,
    "reach": reach,
    "corruptions": corruptions,
    "radius": radius,
    "bits_per_byte": bits_per_byte,
    "plugins": plugin,
}
"""Measures by their keys in the scale file."""
SECTIONS: dict[str, type[yaml_file.Strict]] = {
    "evaluation": Evaluation,
    "finetune": Finetuning,
    "reach": Reach,
    "corruptions": Corruptions,
    "radius": Radius,
    "bits_per_byte": BitsPerByte,
}
"""Those that are told more than a file, which other kinds are told alone; plug-ins a path of Python's."""


def _told(wanted: Wanted) -> Any:
    """What a measure is told, checked: a file, a section of the scale file, or (file, section).

    Raises:
        InputError: it is told something else.
    """
    of, told, where = measured.kind(wanted.name), wanted.setting, f"--with {wanted.name}"
    if of == "plugins":
        return _text(told, where, "the Python path of a probe, `module.of.yours:name`")
    if of not in SECTIONS:
        return Path(_text(told, where, "the path of a file"))
    if of == "finetune":
        settings = dict(told) if isinstance(told, dict) else {"data": told}
        file = _text(settings.pop("data", None), f"{where}: data", "the path of a file")
        return Path(file), yaml_file.validated(Finetuning, settings, where)
    if of == "evaluation":
        told = {"sequences": told}
    elif of == "reach" and isinstance(told, list):
        told = {"loss_nats": told}
    return yaml_file.validated(SECTIONS[of], told, where)


def _text(told: Any, where: str, remedy: str) -> str:
    if not (isinstance(told, str) and told):
        raise InputError(f"{where}: is {told!r}; give {remedy}")
    return told


def wanted(
    take: Sequence[str], told: Sequence[str], over_training: Sequence[str], planned: Sequence[str] = ()
) -> list[Wanted]:
    """From `--take NAME=FILE`, `--with NAME=YAML`, `--over-training NAME` and `--planned NAME=DIGEST`.

    Raises:
        InputError: one lacks the others, or is told what it cannot read.
    """
    outputs: dict[str, str] = {}
    for name, file in (_named("--take", one) for one in take):
        if name in outputs:
            raise InputError(f"--take {name}: is asked for twice; take the second with a command of its own")
        outputs[name] = file
    settings = {
        name: yaml_file.parse(text, f"--with {name}") for name, text in (_named("--with", one) for one in told)
    }
    if not outputs:
        raise InputError("--take: no measure is asked for; give --take NAME=FILE")
    for name in outputs:
        if measured.kind(name) not in TAKEN_BY:
            raise InputError(f"--take {name}: no such measure; there are: {', '.join(TAKEN_BY)}")
        if name not in settings:
            raise InputError(f"--with {name}=…: missing; it says what --take {name} reads")
    for option, names in (("--with", settings), ("--over-training", over_training)):
        if stray := [name for name in names if name not in outputs]:
            raise InputError(
                f"{option} {stray[0]}: goes with --take {stray[0]}=FILE; give it, or leave both out"
            )
    codes = dict(_named("--planned", one) for one in planned)
    asked = [
        Wanted(name, settings[name], Path(file), name in over_training, codes.get(name, ""))
        for name, file in outputs.items()
    ]
    for one in asked:
        _told(one)
        ending(".json")(one.output)
    return asked


def _named(option: str, given: str) -> tuple[str, str]:
    name, equals, value = given.partition("=")
    if not (name and equals and value):
        raise InputError(f"{option} {given}: expected NAME=VALUE, for instance {option} probe=FILE")
    return name, value


def planned(file: Path, run: str) -> list[Wanted]:
    """What a study measures of one of its runs, from the file that `mlm.pipeline` writes."""
    stated = read_json(file, "run the pipeline again")
    mine = stated["runs"].get(run, {"vocabulary": "", "files": []})
    return [
        Wanted(**stated["measures"][mine["vocabulary"]][name], output=RESULTS / "runs" / run / name)
        for name in mine["files"]
    ]


def with_training(run: RunFolder, asked: Sequence[Wanted]) -> None:
    """Measure a run in the process that trained it, so that none starts and loads torch for it.

    The files are laid aside for the jobs that are for them, which put them in their places. What cannot be
    taken is no failure of the training: its job tries again, and says why.
    """
    if run.numerics.device == "cuda":  # what training held, another process on the GPU may want
        import gc

        import torch

        gc.collect()
        torch.cuda.empty_cache()
    for one in asked:
        try:
            measure(run, [one._replace(output=_aside(one))])
        except (Exception, SystemExit) as error:
            print(f"note: {run.name}: {one.name} is not taken yet: {type(error).__name__}: {error}")


def still_to_take(
    run: RunFolder, asked: Sequence[Wanted], trained: bool = True, step: int | None = None
) -> list[Wanted]:
    """Of measures whose files' names say settings, data and code, those not taken of these weights yet.

    What training laid aside is put in its place. Loads no torch: most measuring jobs find all taken.
    """
    of = _of(run, trained, step)
    steps = run.config.kept_steps if trained and of["status"] == "finished" else []
    left = []
    for one in asked:
        aside = one._replace(output=_aside(one))
        if _is_there(one, of, steps):
            continue
        if one.output and aside.output and _is_there(aside, of, steps):
            aside.output.replace(one.output)
        else:
            left.append(one)
    return left


def _aside(wanted: Wanted) -> Path | None:
    return wanted.output and wanted.output.parent / "aside" / wanted.output.name


def _of(run: RunFolder, trained: bool, step: int | None) -> dict[str, Any]:
    """Which weights a measure is of, as its file says it."""
    of: dict[str, Any] = {"run": run.path.name, "status": "finished"}
    if not trained:
        return of | {"run": study.untrained_digest(run.record)}
    if step is not None:
        return of | {"step": step}
    return of | {"status": run.outcome()["status"], "run_sha256": file_sha256(run.path / "run.json")}


def measure(run: RunFolder, asked: Sequence[Wanted], trained: bool = True, step: int | None = None) -> None:
    """Take measures of a run, each written as it is taken; a diverged run has no values.

    Args:
        trained: False measures the encoder before the first step.
        step: measures the weights kept after so many steps; those at the end unless told.

    Raises:
        InputError: by other code than was planned, which the file's name would then not tell.
    """
    for one in asked:
        _check_code(one)
    of, steps = _of(run, trained, step), run.config.kept_steps if trained else []
    encoder = run.encoder(trained, step) if of["status"] == "finished" else None
    for one in asked:
        data = _data(one)
        content = {**of, "measure": one.name, **({"data": data} if data else {}), "values": {}}
        if encoder is not None:
            content |= _timed(run, encoder, one)
            if one.over_training and steps:
                content["over_training"] = [_on_the_way(run, at, one) for at in steps]
        _check_code(one)  # what takes it may have been loaded since
        if one.output is not None:
            write_json(one.output, content)
        else:
            _show(content)


def _check_code(wanted: Wanted) -> None:
    """Refuse a measure whose code is not the one that it was planned by, as files are now."""
    if not wanted.code:
        return
    identity.forget()
    if identity.digest(measured.code(wanted.name, wanted.setting)) != wanted.code:
        raise InputError(
            f"{wanted.output}: the source of what takes `{wanted.name}` changed since it was planned; take the "
            "change back, or plan anew (`snakemake`), which takes it under another name"
        )


def _data(wanted: Wanted) -> dict[str, str]:
    """The prepared file that a measure reads beside the run -> its SHA-256."""
    told = wanted.setting.get("data") if isinstance(wanted.setting, dict) else wanted.setting
    path = Path(told) if isinstance(told, str) else None
    return {path.as_posix(): file_sha256(path)} if path and path.is_file() else {}


def _timed(run: RunFolder, encoder: "Encoder", wanted: Wanted) -> dict[str, Any]:
    """A measure, with the seconds that it took, by which others are reckoned (`mlm.costs`)."""
    begun = time.monotonic()
    result = TAKEN_BY[measured.kind(wanted.name)](run, encoder, wanted)
    return {**result, "wall_seconds": round(time.monotonic() - begun, 3)}


def _on_the_way(run: RunFolder, step: int, wanted: Wanted) -> dict[str, Any]:
    """A measure of the weights kept after a step."""
    wanted = wanted._replace(on_the_way=True)
    values = TAKEN_BY[measured.kind(wanted.name)](run, run.encoder(step=step), wanted)["values"]
    return {"step": step, "tokens": step * run.config.tokens_per_step, "values": values}


def _is_there(wanted: Wanted, of: dict[str, Any], steps: Sequence[int]) -> bool:
    if wanted.output is None or not wanted.output.exists():
        return False
    try:
        content = read_json(wanted.output, "")
        moments = [one["step"] for one in content.get("over_training", [])]
    except (Damaged, AttributeError, TypeError, KeyError):
        return False
    told = {**of, "measure": wanted.name}
    return told.items() <= content.items() and moments == (list(steps) if wanted.over_training else [])


def _show(content: dict[str, Any]) -> None:
    console = Console(highlight=False)
    for part in ("values", "references", "counts", "seconds"):
        for key, value in content.get(part, {}).items():
            console.print(f"{key:<48} {value:>10.4f}" if isinstance(value, float) else f"{key:<48} {value:>10}")
