"""The step's forward and backward pass as compiled code: the same numbers but for rounding, in less time.

torch.compile fuses what lies between the matrix products. Compiling takes a minute a shape, is kept in
results/data/compiled, and is done by a job of its own before the runs of a study, which then find it.
"""

import importlib.util
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlm import config, identity, schedules
from mlm.layout import RESULTS

if TYPE_CHECKING:
    from torch import Tensor

    from mlm.encoder import Encoder
    from mlm.objectives import Batch, Objective
    from mlm.randomness import Uniform

CACHE = RESULTS / "data" / "compiled"
CODE = ("mlm.block", "mlm.encoder", "mlm.objectives", "mlm.compiled")
"""The modules that are traced, and this one: compiled code is another where their source is."""
FOLDER_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"


def missing(cuda: bool) -> str | None:
    """What this machine lacks to compile for its CPU or its GPU; None if nothing."""
    if cuda and importlib.util.find_spec("triton") is None:
        return "Python package triton"
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        return f"C++ compiler ({compiler})"
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    return None if header.is_file() else f"{header} (Debian's package python3-dev)"


def covers(run: config.Run) -> bool:
    """Whether a run's step is compiled where that is asked for.

    Dropout draws from streams of our own, which the compiler cannot see into; parts of the user's own
    are run as they are written.
    """
    return run.encoder.dropout == 0 and not {"objective", "encoder.architecture"} & run.plugins.keys()


def source() -> str:
    """Digest of the source that is compiled, and of the packages that compile it."""
    return identity.code_hash(CODE, ("torch", "numpy"))


def shape(record: Mapping[str, Any]) -> str:
    """Digest of what decides the compiled code of a run, from its record; runs that share it compile once."""
    training = record["training"]
    parts = ("encoder", "lengths", "objective", "sequence_length", "batch_size", "micro_batch")
    stated = {part: training[part] for part in parts} | {"attention": _attention(training)}
    return identity.digest([stated, record["data"]["vocabulary"], record["numerics"], source()])


def _attention(training: Mapping[str, Any]) -> Any:
    """What the code depends on: whether there is a pattern, and all that is stated where that may change."""
    window, group = training["attention"]["window"], training["attention"]["group"]
    if training["lengths"] is not None or isinstance(window, Mapping):
        return training["attention"]
    pattern = schedules.Pattern(training["objective"] == "causal", window, group)
    return pattern.everywhere(training["sequence_length"])


def shapes(run: config.Run) -> list[int]:
    """Steps that between them need all the code that a run does: of each length, with and without a pattern."""
    first: dict[Any, int] = {}
    for step in range(run.steps):
        length = schedules.length(run, step)
        pattern = schedules.pattern(run, schedules.progress(step, run.steps))
        first.setdefault((length, pattern.everywhere(length)), step)
    return list(first.values())


_ours: dict[Path, Path] = {}
"""Folders that `keep_in` has made known to torch in this process -> what they lie in."""


def keep_in(root: Path, code: str) -> None:
    """Let this process's compiled code be kept in, and found in, a folder's part for this state of our code.

    Args:
        root: the folder, unless the environment variable TORCHINDUCTOR_CACHE_DIR names another.
        code: digest of the source that is compiled.
    """
    stated = Path(os.environ.get(FOLDER_VARIABLE, root)).absolute()
    root = _ours.get(stated, stated)
    folder = root if root.name == code else root / code  # inherited from a process of this code's, or not
    if _ours.get(folder) == root and folder == stated:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        os.environ.pop(FOLDER_VARIABLE, None)  # torch's own choice, in the folder for temporary files
        print(
            f"warning: {folder}: compiled steps cannot be kept there ({error.strerror}); every run compiles "
            f"its own, for about a minute. Make it writable, or name another folder in {FOLDER_VARIABLE}",
            file=sys.stderr,
        )
        return
    os.environ[FOLDER_VARIABLE] = str(folder)
    _ours[folder] = root


def sums(objective: "Objective") -> "Callable[[Encoder, Batch, Uniform | None], dict[str, Tensor]]":
    """`objective.sums`, compiled; how many targets a row has may differ from step to step."""
    import torch
    from torch._functorch import config as functorch

    from mlm.encoder import allowed

    # Torch keeps nothing of a graph with gradients of the user's own, for fear of finding it again when
    # they have changed. In a folder of ours it would be another.
    functorch.autograd_cache_allow_custom_autograd_functions = (
        Path(os.environ.get(FOLDER_VARIABLE, "")) in _ours
    )
    compiled = torch.compile(objective.sums)

    def call(encoder: "Encoder", batch: "Batch", uniform: "Uniform | None") -> "dict[str, Tensor]":
        for part in (batch.at, batch.targets, batch.real, batch.kind):
            torch._dynamo.maybe_mark_dynamic(part, 1)
        encoder.table = allowed(encoder.pattern, batch.inputs.shape[1], batch.inputs.device)
        return compiled(encoder, batch, uniform)

    return call
