"""(seed, purpose, step) -> generator. Nothing in this project draws from a global generator.

Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") is counter-based:
its 128-bit key and 256-bit counter are filled with the coordinates themselves, so two
different coordinates can never share a stream, which hashed seeds cannot promise.
"""

import hashlib
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import DTypeLike, NDArray

if TYPE_CHECKING:
    import torch

Uniform = Callable[[tuple[int, ...]], "torch.Tensor"]
"""shape -> independent draws from [0, 1), float64 on the CPU, float32 on CUDA."""


class Purpose(IntEnum):
    """What randomness is used for. Numbers are fixed for ever: they are part of every result."""

    INITIALISATION = 1
    ORDER = 2
    MASKING = 3
    DROPOUT = 4
    EVALUATION = 5
    PROMPTS = 6
    PAIRS = 7
    SENTENCES = 8
    FINETUNING = 9


class _Key(ISeedSequence):
    """Philox's key, given as what seeds are hashed to: with `key=` NumPy first asks the system for entropy."""

    def __init__(self, seed: int, purpose: Purpose) -> None:
        self.words = np.array([seed, purpose], dtype=np.uint64)

    def generate_state(self, n_words: int, dtype: DTypeLike = np.uint64) -> NDArray[np.uint64]:
        assert n_words == len(self.words) and dtype is np.uint64
        return self.words


def generator(seed: int, purpose: Purpose, step: int = 0, name: str = "") -> np.random.Generator:
    """The generator of one coordinate.

    `name` distinguishes streams that have no natural number, such as parameters: adding a
    parameter then moves no other. Each stream holds 2**64 blocks before it could touch another.

    >>> generator(0, Purpose.MASKING, 7).random() == generator(0, Purpose.MASKING, 7).random()
    True
    >>> generator(0, Purpose.MASKING, 7).random() == generator(0, Purpose.MASKING, 8).random()
    False
    """
    tag = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") if name else 0
    counter = np.array([0, step, tag, 0], dtype=np.uint64)
    key: Any = _Key(seed, purpose)  # NumPy's bit generators take any ISeedSequence; its annotations know one
    return np.random.Generator(np.random.Philox(key, counter=counter))


def uniform(source: np.random.Generator) -> Uniform:
    """Draws of a NumPy generator as torch tensors; what training and evaluation mask with."""
    import torch

    return lambda shape: torch.from_numpy(source.random(shape))


def uniform_on(device: "torch.device", seed: int, purpose: Purpose, step: int) -> Uniform:
    """Draws made where they are used: too many for the CPU to make for a GPU.

    CUDA's generator is itself a Philox with a 64-bit seed, here drawn from the coordinate's stream.
    """
    import torch

    source = generator(seed, purpose, step)
    if device.type == "cpu":
        return uniform(source)
    there = torch.Generator(device)
    there.manual_seed(int(source.integers(2**63)))
    return lambda shape: torch.rand(shape, generator=there, device=device)
