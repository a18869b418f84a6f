"""The complete state of a run: written atomically, read strictly, the last two kept."""

import contextlib
import itertools
import json
from pathlib import Path
from typing import NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from mlm.errors import Damaged
from mlm.files import clear_partial, sealed, unsealed, write_atomically

KEPT = 2


class State(NamedTuple):
    """Where a run stands. Batches, masks and rates follow from the step number."""

    step: int
    """Updates done."""
    tensors: dict[str, Tensor]
    counters: dict[str, float]
    """Realised counts so far, seconds of training, and micro-batches a step."""


def save(folder: Path, state: State) -> None:
    """Write a checkpoint, then let go of all but the last two."""
    header = {"step": str(state.step), "counters": json.dumps(state.counters)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    write_atomically(folder / f"{state.step:012d}.checkpoint", sealed(safetensors.torch.save(tensors, header)))
    # One of a later step was damaged, or the run would have gone on from it.
    kept = [path for path in _by_age(folder) if int(path.stem) <= state.step][:KEPT]
    for path in _by_age(folder):
        if path not in kept:
            path.unlink()
    clear_partial(folder)


def latest(folder: Path) -> tuple[State | None, list[str]]:
    """The newest checkpoint that is whole, and a warning for each damaged one passed over.

    None where there is none: the run begins anew.
    """
    warnings: list[str] = []
    found = _by_age(folder)
    for path, before in itertools.zip_longest(found, found[1:]):
        try:
            return _load(path), warnings
        except Damaged as error:
            then = f"falling back to the one of step {int(before.stem)}" if before else "training anew"
            warnings.append(f"{error}; {then}")
    return None, warnings


def clear(folder: Path) -> None:
    """Remove the checkpoints of a finished run, what a killed writer left, and the folder if it is empty."""
    for path in folder.glob("*.checkpoint"):
        path.unlink()
    clear_partial(folder)
    with contextlib.suppress(OSError):  # not there, or somebody has looked into it with an editor
        folder.rmdir()


def _by_age(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.checkpoint"), reverse=True)


def _load(path: Path) -> State:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise Damaged(f"{path}: unreadable checkpoint ({error.strerror})") from None
    content = unsealed(raw)
    if content is None:
        raise Damaged(f"{path}: damaged checkpoint ({len(raw)} bytes, wrong checksum)")
    # safetensors gives the header of a file only, so it is parsed here: length, then JSON.
    size = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + size])["__metadata__"]
        return State(int(header["step"]), safetensors.torch.load(content), json.loads(header["counters"]))
    except (ValueError, KeyError, safetensors.SafetensorError) as error:
        raise Damaged(f"{path}: damaged checkpoint ({error})") from None


def save_weights(path: Path, module: torch.nn.Module, header: dict[str, str]) -> None:
    """A model's weights as safetensors, in the order of their names."""
    tensors = {name: p.detach().cpu().contiguous().clone() for name, p in sorted(module.named_parameters())}
    write_atomically(path, safetensors.torch.save(tensors, header))


def load_weights(path: Path, module: torch.nn.Module) -> None:
    """Fill a module with weights; every name and shape must agree."""
    remedy = "delete the run's folder to train it anew"
    try:
        tensors = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise Damaged(f"{path}: not readable as safetensors ({error}); {remedy}") from None
    expected = dict(module.named_parameters())
    if {n: tuple(t.shape) for n, t in tensors.items()} != {n: tuple(p.shape) for n, p in expected.items()}:
        raise Damaged(f"{path}: holds other parameters than its configuration describes; {remedy}")
    with torch.no_grad():
        for name, parameter in expected.items():
            parameter.copy_(tensors[name])
