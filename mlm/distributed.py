"""One run on several processes, each with its slice of the same batch. torch is loaded only to join.

Every process draws the whole batch and its masks, which follow from (seed, step), and computes the rows
that are its own; gradients are summed over all of them. That is data parallelism as DistributedDataParallel
does it (Li et al. 2020, arXiv 2006.15704) but for its buckets: the gradients of a run lie in one flat buffer
already, so one all-reduce a step is enough, and it comes after all have told that they have not run out of
memory. Losses are divided by the targets of the whole batch, which every process knows without asking.
"""

import datetime
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlm.config import Numerics
from mlm.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Group:
    """The processes of one run; alone, unless told, and then no call costs anything.

    Args:
        rank: which of them this is, from 0.
        size: how many there are.
        joined: whether they can talk to each other; where they cannot, sums are of the own part.
    """

    def __init__(self, rank: int = 0, size: int = 1, joined: bool = False) -> None:
        self.rank, self.size, self._joined = rank, size, joined

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files."""
        return self.rank == 0

    def rows(self, rows: int) -> tuple[int, int]:
        """Where this process's rows of a batch begin and end.

        >>> Group(rank=1, size=2).rows(8)
        (4, 8)
        """
        return rows * self.rank // self.size, rows * (self.rank + 1) // self.size

    def sum_(self, tensor: "Tensor") -> None:
        """Replace a tensor by its sum over all processes, the same bits in each."""
        if self._joined:
            import torch.distributed

            torch.distributed.all_reduce(tensor)

    def any(self, flag: bool, device: "torch.device | str" = "cpu") -> bool:
        """Whether it is so in any of the processes."""
        if not self._joined:
            return flag
        import torch

        told = torch.tensor(int(flag), device=device)
        self.sum_(told)
        return bool(told)


ALONE = Group()


def launch(numerics: Numerics, words: list[str]) -> None:
    """Where a run wants several processes and this is none of them: become torchrun, which starts them.

    Args:
        words: what `python -m mlm` was told.
    """
    if numerics.processes == 1 or "WORLD_SIZE" in os.environ:
        return
    sys.stdout.flush()
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={numerics.processes}"]
    os.execv(sys.executable, [sys.executable, *torchrun, "-m", "mlm", *words])  # noqa: S606


def check(numerics: Numerics, name: str) -> None:
    """Refuse to train a run on other processes than it was planned for: their number decides its bits.

    Raises:
        InputError: there are more or fewer.
    """
    found = int(os.environ.get("WORLD_SIZE", "1"))
    if found != numerics.processes:
        remedy = (
            "without torchrun"
            if numerics.processes == 1
            else f"as `torchrun --standalone --nproc-per-node={numerics.processes} -m mlm train {name}`"
        )
        raise InputError(
            f"{name}: was planned for {numerics.processes} process{'es' * (numerics.processes > 1)} (the "
            f"scale's `numerics.processes`), and here are {found}; start it {remedy}"
        )


@contextmanager
def joined(numerics: Numerics) -> Iterator[Group]:
    """The processes that torchrun started for a run, able to talk until the block ends."""
    if numerics.processes == 1:
        yield ALONE
        return
    import torch.distributed

    # One process waits for the others while it waits for a lock; a process that dies is torchrun's to notice.
    patience = datetime.timedelta(days=1)
    # What a process knows without its GPU, whether there is work, is told by way of the CPU.
    backend = "cpu:gloo,cuda:nccl" if numerics.device == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, timeout=patience)
    try:
        yield Group(torch.distributed.get_rank(), torch.distributed.get_world_size(), joined=True)
    finally:
        torch.distributed.destroy_process_group()
