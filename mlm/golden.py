"""Code identity by behaviour: a run's code is called by the bits of a golden run. Loads no torch.

A golden run is a run's own configuration made tiny: the same objective, masking, schedules, optimizer and
plug-ins. Runs that take the same path through the code share one, whatever their sizes, seeds and budgets.
`mlm.golden_run` computes its bits in a process of its own, with kernels that every CPU of an architecture has.
They are kept by the source that gave them: an unchanged source computes nothing, a changed one some seconds.

What a golden run cannot speak for enters a run's digest beside its bits: the versions of torch and numpy,
whose kernels for this CPU and the run's own sizes are others; and the syntax of the modules that are compiled,
or that compute in another way on a GPU.
"""

import contextlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlm import compiled, identity, schedules
from mlm.config import Growth, Numerics, Run
from mlm.errors import Damaged, InputError, OtherEachTime
from mlm.files import read_json, write_json
from mlm.layout import RESULTS
from mlm.progress import Progress

CODE = (
    "mlm.fields", "mlm.config", "mlm.config_encoder", "mlm.config_masking", "mlm.randomness", "mlm.batches",
    "mlm.sentence_pairs", "mlm.selection", "mlm.masking", "mlm.schedules", "mlm.block", "mlm.encoder",
    "mlm.model", "mlm.objectives", "mlm.optimizer", "mlm.evaluate", "mlm.measures", "mlm.flops", "mlm.train",
    "mlm.checkpoint", "mlm.distributed", "mlm.metrics", "mlm.files", "mlm.layout", "mlm.devices", "mlm.plugins",
    "mlm.identity", "mlm.shards", "mlm.golden", "mlm.golden_run",
)  # fmt: skip
"""The modules that a golden run goes through; where one has changed, it is computed anew."""
PACKAGES = ("torch", "numpy")
ON_CUDA = ("mlm.block", "mlm.encoder", "mlm.objectives", "mlm.randomness", "mlm.optimizer", "mlm.devices")
"""The modules whose operations are others on a GPU."""
TOGETHER = ("mlm.distributed", "mlm.train")
"""The modules that do more where several processes train a run; a golden run is of one."""
ANY_CPU = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"}
"""Variables under which torch and the libraries below it use what every CPU of an architecture has."""
FOLDER_VARIABLE = "MLM_GOLDEN"
STDERR = 2

Question = dict[str, Any]
"""What decides a golden run: `training`, the tiny run; `dtype` of its activations; `plugins`, their sources."""

N_TOKENS, STEPS, ROWS = 64, 11, 4  # progress is a tenth a step, so that it meets what is stated in tenths
SIZES = {"layers": 2, "width": 16, "heads": 2, "feedforward_width": 32}
BEGIN, END = (3, 2, 1), (1, 2, 3)
"""Weights of [MASK], the same and a random token, of those that a split has."""


def codes(numerics: Numerics, asked: Sequence[tuple[Run, Mapping[str, str]]]) -> list[str]:
    """What the code of runs is called; golden runs that are not known are computed, in one process.

    Args:
        asked: runs, each with the digests of its plug-ins' sources.

    Raises:
        InputError: the code fails in a golden run.
    """
    questions = [question(run, numerics, own) for run, own in asked]
    names = [identity.digest(one) for one in questions]
    known = _known(names)
    if missing := {n: one for n, one in zip(names, questions, strict=True) if n not in known}:
        _start(list(missing.values()))
        known = _known(names)
        if lost := {*names} - {*known}:
            raise InputError(f"{folder() / min(lost)}.json: was written and is not there; look at the disk")
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    called = []
    for (run, _), name in zip(asked, names, strict=True):
        beside: dict[str, Any] = {"versions": versions}
        if numerics.path == "compiled" and compiled.covers(run):
            beside |= {"compiled": compiled.source()}
        if numerics.device == "cuda":
            beside |= {"cuda": identity.code_hash(ON_CUDA)}
        if numerics.processes > 1:
            beside |= {"processes": identity.code_hash(TOGETHER)}
        called.append(identity.digest({"bits": known[name], **beside}))
    return called


def code(numerics: Numerics, run: Run, own: Mapping[str, str]) -> str:
    """What the code of one run is called."""
    return codes(numerics, [(run, own)])[0]


def question(run: Run, numerics: Numerics, own: Mapping[str, str]) -> Question:
    """The golden run that a run is one of."""
    return {"training": tiny(run).model_dump(), "dtype": numerics.dtype, "plugins": dict(own)}


def folder() -> Path:
    """Where the bits of this source's golden runs are kept: in results/golden, or in what MLM_GOLDEN names."""
    source = identity.digest([identity.code_hash(CODE, PACKAGES), platform.machine()])
    return Path(os.environ.get(FOLDER_VARIABLE, RESULTS / "golden")) / source


def _known(names: Iterable[str]) -> dict[str, str]:
    """Of the golden runs that are kept and whole: digest of the question -> digest of the bits."""
    place, found = folder(), {}
    for name in dict.fromkeys(names):
        with contextlib.suppress(Damaged, KeyError, TypeError):
            kept = read_json(place / f"{name}.json", "it is computed again")
            if kept["check"] == identity.digest([name, kept["bits"]]):
                found[name] = identity.digest(kept["bits"])
    return found


def _start(missing: Sequence[Question]) -> None:
    """Compute golden runs in a process that loads torch."""
    environment = {**os.environ, "PYTHONPATH": identity.python_path()}
    command = [sys.executable, "-m", "mlm", "golden"]
    # What it prints belongs to no command's own output.
    ended = subprocess.run(
        command, input=json.dumps(missing), env=environment, stdout=STDERR, text=True, check=False
    )
    if ended.returncode == 2:
        raise InputError("nothing can be planned before that, told above, is put right")
    if ended.returncode:
        raise InputError("the code fails in a golden run, as told above (mlm/golden.py); correct it")


def compute(questions: Sequence[Question]) -> None:
    """Compute golden runs and keep their bits, in a process that has not loaded torch yet."""
    os.environ.update(ANY_CPU)
    from mlm import golden_run

    progress = Progress("golden runs", len(questions), "code paths")
    for asked in questions:
        try:
            bits = golden_run.bits(Run.model_validate(asked["training"]), asked["dtype"])
        except Exception as error:
            if not asked["plugins"] or isinstance(error, OSError | MemoryError | OtherEachTime):
                raise
            # A part of the user's own may need other sizes: the code of its runs goes by its source.
            bits = {"source": identity.code_hash(CODE)}
            told = f"{', '.join(asked['plugins'])}: fails in a golden run ({type(error).__name__}: {error})"
            print(f"note: {told}; any change of the code makes its runs others", file=sys.stderr)
        name = identity.digest(asked)
        kept = {"question": asked, "bits": bits, "check": identity.digest([name, bits])}
        write_json(folder() / f"{name}.json", kept)
        progress.add(1)


def tiny(run: Run) -> Run:
    """A run's path through the code at a hundredth of a second a step, with every boundary of its schedules.

    What chooses between paths is kept, and so are the optimizer's settings. Of other quantities it is kept
    whether they are there: sizes, rates, shares of a split, the steps of warm-up and decay are the same for all
    runs that have them; lengths and windows keep their order.
    """
    stages = len(run.lengths.values) if run.lengths else 1
    length = 1 << max(4, stages)
    step = length * ROWS
    stated = run.model_dump()
    if lengths := stated["lengths"]:
        lengths["values"] = [length >> behind for behind in reversed(range(stages))]
        lengths["ends"] = _ends(lengths["ends"])

    attention, window = stated["attention"], run.attention.window
    if isinstance(window, Growth):
        attention["window"]["values"] = _scaled(window.values, length / run.sequence_length)
        attention["window"]["ends"] = _ends(window.ends)
    elif window:
        attention["window"] = _scaled([window], length / run.sequence_length)[0]

    masking = stated["masking"]
    masking["rate"] = 1.0 if run.masking.rate == 1 else 0.3
    masking["split"] = _shares(masking["split"], BEGIN)
    masking["predicted"] = 1.0 if run.masking.predicted == 1 else 0.5
    masking["span"]["longest"] = min(run.masking.span.longest, lengths["values"][0] if lengths else length)
    if change := masking["change"]:
        change["rate"] = change["rate"] and 0.6
        change["split"] = change["split"] and _shares(change["split"], END)
        change["at"] = 0.5

    def divided(part: int | None, whole: int, tiny: int) -> int | None:
        """`tiny` where the whole is stated, half of it where a part is."""
        return part and (tiny if part == whole else tiny // 2)

    attention["group"] = divided(run.attention.group, run.sequence_length, length)
    return Run.model_validate(
        stated
        | {
            "corpus": "golden",
            "vocabulary": {"size": N_TOKENS},
            "tokenizer": None,
            "init_from": None,
            "encoder": stated["encoder"] | SIZES | {"max_positions": length},
            "optimizer": stated["optimizer"]
            | {
                "learning_rate": 1e-2,
                "warmup_tokens": run.optimizer.warmup_tokens and 5 * step // 2,
                "decay_tokens": run.optimizer.decay_tokens and 9 * step // 2,
            },
            "curve": {"every_tokens": 4 * step, "sequences": 6},
            "sequence_length": length,
            "stretch": divided(run.stretch, run.sequence_length, length),
            "batch_size": ROWS,
            "micro_batch": divided(run.micro_batch, run.batch_size, ROWS),
            "budget_tokens": STEPS * step,
            "log_every_tokens": 2 * step,
            "checkpoints_at": [3 * step],
            "seed": 0,
        }
    )


def _ends(stated: Sequence[float]) -> list[float]:
    """Where stages end, if that is stated: each at the progress of a step."""
    steps = max(STEPS, len(stated) + 2)
    return [schedules.progress(number, steps) for number in range(1, len(stated) + 1)]


def _scaled(values: Sequence[int], by: float) -> list[int]:
    """Ascending values made smaller, and still ascending."""
    found: list[int] = []
    for value in values:
        found.append(max(round(value * by), found[-1] + 1 if found else 2))
    return found


def _shares(split: Mapping[str, float], weights: Sequence[int]) -> dict[str, float]:
    """A split with the same kinds of tokens, by weights."""
    there = {kind: weight for (kind, share), weight in zip(split.items(), weights, strict=True) if share}
    return {kind: weight / sum(there.values()) for kind, weight in there.items()}
