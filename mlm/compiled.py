"""The step's forward and backward pass as compiled code: the same numbers but for rounding, in less time.

torch.compile fuses what lies between the matrix products. Compiling takes a minute a shape, is kept in
results/data/compiled, and is done by a job of its own before the runs of a study, which then find it.
"""

import functools
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlm import config, identity, machine, schedules
from mlm.errors import InputError
from mlm.files import sealed, unsealed, write_atomically
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
TARGETS = ("at", "targets", "real", "kind")
"""Of a batch: its rectangles of targets, as wide as the row with most."""


def missing(cuda: bool) -> str | None:
    """What this machine lacks to compile for its CPU or its GPU; None if nothing."""
    if cuda and importlib.util.find_spec("triton") is None:
        return "Python package triton"
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        return f"C++ compiler ({compiler})"
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    return None if header.is_file() else f"{header} (Debian's package python3-dev)"


def compiler() -> str:
    """The C++ compiler, its version with it, in the first line of its own words; empty where there is none."""
    return _told(os.environ.get("CXX", "g++"))


@functools.cache
def _told(command: str) -> str:
    try:
        said = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return said.stdout.partition("\n")[0].strip()


def covers(run: config.Run) -> bool:
    """Whether a run's step is compiled where that is asked for.

    Dropout draws from streams of our own, which the compiler cannot see into; parts of the user's own
    are run as they are written.
    """
    return run.encoder.dropout == 0 and not {"objective", "encoder.architecture"} & run.plugins.keys()


def source() -> str:
    """Digest of the source that is compiled, and of the packages that compile it."""
    return identity.code_hash(CODE, ("torch", "numpy"))


def made_by() -> str:
    """Digest of what is compiled and of what compiles it: code is kept apart for each."""
    return identity.digest([source(), compiler()])


def shape(record: Mapping[str, Any]) -> str:
    """Digest of what decides the compiled code of a run, from its record; runs that share it compile once."""
    training = record["training"]
    parts = ("encoder", "lengths", "objective", "sequence_length", "batch_size", "micro_batch")
    stated = {part: training[part] for part in parts} | {"attention": _attention(training)}
    return identity.digest([stated, record["data"]["vocabulary"], record["numerics"], made_by()])


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
        code: what the part is called, `made_by()`.
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
    """`objective.sums`, compiled; how many targets a row has may differ from step to step.

    Each length has code of its own, whichever came before it: a run that goes on finds the same.
    """
    import torch

    from mlm.encoder import allowed

    steps: dict[Any, Any] = {}

    def call(encoder: "Encoder", batch: "Batch", uniform: "Uniform | None") -> "dict[str, Tensor]":
        for name in TARGETS:
            torch._dynamo.maybe_mark_dynamic(getattr(batch, name), 1)
        encoder.table = allowed(encoder.pattern, batch.inputs.shape[1], batch.inputs.device)
        form = (encoder.table is None, *_sizes(batch))
        if form not in steps:
            steps[form] = _step(objective, encoder, batch, form)
        result: dict[str, Tensor] = steps[form](objective, encoder, batch, uniform)
        return result

    return call


def _sizes(batch: "Batch") -> "Iterator[tuple[int, ...] | None]":
    """What code is compiled for: all sizes, but of targets only whether a row has more than one."""
    for name, part in batch._asdict().items():
        if part is None or name not in TARGETS:
            yield None if part is None else tuple(part.shape)
        else:
            yield part.shape[0], min(part.shape[1], 2)


def _step(objective: "Objective", encoder: "Encoder", batch: "Batch", form: Any) -> Any:
    """A compiled step: for a CPU as it is kept where `keep_in` said, or made, and kept there.

    Kept is also what tracing finds out, which takes longer than all else that a run begins with.
    """
    import torch
    from torch._dynamo import config as dynamo
    from torch._functorch import config as functorch

    kept = Path(os.environ.get(FOLDER_VARIABLE, "")) in _ours
    file = Path(os.environ[FOLDER_VARIABLE], "steps", _name(objective, encoder, form)) if kept else None
    if file and (found := _found(file)) is not None:
        return found
    whole = type(objective).sums
    if batch.inputs.is_cuda:
        # Torch keeps nothing of a graph with gradients of the user's own, for fear of finding it again
        # when they have changed. In a folder of ours it would be another.
        functorch.autograd_cache_allow_custom_autograd_functions = kept
        # Nor may what torch times on this GPU decide on the bits, where they are to be the same again.
        return _guarded(whole, options={"deterministic": torch.are_deterministic_algorithms_enabled()})
    # Form and name say all that torch would look at before each step, and what it looks with cannot be kept.
    unguarded: dict[str, Any] = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
    unmade: Any = torch.compile(whole, fullgraph=True, options=unguarded)
    with (
        dynamo.patch(automatic_dynamic_shapes=False),
        functorch.patch(autograd_cache_allow_custom_autograd_functions=True),
    ):
        step = unmade.aot_compile(((objective, encoder, batch, None), {}))
    step.disable_guard_check()
    if file:
        content = "\n".join(_instructions()).encode() + b"\n\n" + type(step).serialize(step).serialized_data
        try:
            write_atomically(file, sealed(content))
        except (OSError, InputError) as error:
            print(f"warning: {file}: not kept, every run compiles it anew: {error}", file=sys.stderr)
    return step


def _guarded(whole: Any, **how: Any) -> Any:
    """A step that torch compiles when it is first called, and looks before each call whether it fits.

    What is fixed in it and what may change follows from that call alone. Else torch lets change what differs
    from a form compiled before: a run that goes on would have other kernels than one that went through.
    """
    import torch
    from torch._dynamo import config as dynamo

    compiling: Any = torch.compile  # whose types lack the last of these
    step = compiling(whole, **how, fullgraph=True, isolate_recompiles=True)

    def call(*given: Any) -> Any:
        with dynamo.patch(automatic_dynamic_shapes=False):
            return step(*given)

    return call


def _name(objective: "Objective", encoder: "Encoder", form: Any) -> str:
    """Digest of all that a step's code depends on, beside what the folder is named after."""
    import torch

    options = encoder.options.model_dump(mode="json")
    stated = [options, encoder.n_tokens, str(encoder.dtype), vars(objective), form]
    torchs = [torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()]
    return identity.digest([stated, torchs, os.environ.get("ATEN_CPU_CAPABILITY"), machine.record()])


def _instructions() -> list[str]:
    """The sets of vector instructions that the compiler may use; torch compiles and loads code to see."""
    from torch._inductor import cpu_vec_isa

    return [str(one) for one in cpu_vec_isa.valid_vec_isa_list()]


def _found(file: Path) -> Any:
    """A step that was kept; None if it cannot be read, and is to be made anew."""
    import torch
    from torch._inductor import config as inductor
    from torch._inductor import cpu_vec_isa

    try:
        content = unsealed(file.read_bytes())
    except OSError:
        return None
    if content is None:
        return None
    stated, _, code = content.partition(b"\n\n")
    with inductor.patch({"cpp.vec_isa_ok": True}):  # it was seen when the step was made
        tried = _instructions()
    try:
        step: Any = torch.compiler.load_compiled_function(io.BytesIO(code))
    except Exception as error:  # of other versions, or without what else torch keeps: each fails in its own way
        print(f"note: {file}: cannot be loaded ({type(error).__name__}), and is made anew", file=sys.stderr)
        step = None
    if step is None or tried != stated.decode().splitlines():
        cpu_vec_isa.valid_vec_isa_list.cache_clear()
        return None
    step.disable_guard_check()
    return step
