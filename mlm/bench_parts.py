"""What a step is made of, measured apart: matrix products, masking, encoding, and how a job starts.

Each function is the target of a process of the benchmark (mlm.bench_process) and says one thing.
"""

import functools
import itertools
import os
import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mlm import config, machine
from mlm.bench_peers import PEERS, batches, collator, rows
from mlm.bench_process import Channel, clock
from mlm.runs import RunFolder

ENCODED_CHARACTERS = 2_000_000
"""Of the training text, for the encoding on one core; the whole corpus is encoded on all."""


def start(channel: Channel, run: str) -> None:
    """Seconds from the start of a training job's process to its first step, and of that step; CPU for both."""
    from mlm import single
    from mlm import train as loop

    class Timed(loop.Trainer):
        def step(self, number: int) -> loop.Step:
            begun = time.monotonic()
            done = super().step(number)
            clock()  # waits for a GPU
            ended = time.monotonic()
            told = {"start_seconds": begun - channel.begun, "first_step_seconds": ended - begun}
            channel.say({**told, "cpu_seconds": time.process_time()})
            os._exit(0)
            return done

    loop.Trainer = Timed  # type: ignore[misc]
    single.train(RunFolder.open(Path(run)), checkpoint_seconds=3600.0)


class Product(NamedTuple):
    """[batch, rows, inner] × [batch, inner, columns], so many times a step."""

    batch: int
    rows: int
    inner: int
    columns: int
    times: int

    @property
    def operations(self) -> int:
        return 2 * self.batch * self.rows * self.inner * self.columns


def products(run: config.Run, n_tokens: int) -> list[Product]:
    """Matrix products of a training step, forward and backward; at the mean number of targets.

    Logits, and in the last layer all but keys and values, are of the targets alone.
    """
    shape, places, length = run.encoder, run.tokens_per_step, run.sequence_length
    in_row = round(run.masking.rate * length)
    targets, below = run.batch_size * in_row, shape.layers - 1
    width, inner, head = shape.width, shape.feedforward_width, shape.width // shape.heads
    found = []
    for height, columns_in, columns_out, times in (
        (places, width, 3 * width, below),
        (places, width, width, below),
        (places, width, inner, below),
        (places, inner, width, below),
        (places, width, 2 * width, 1),
        (targets, width, width, 2),
        (targets, width, inner, 1),
        (targets, inner, width, 1),
        (targets, width, n_tokens, 1),
    ):
        found += [
            Product(1, height, columns_in, columns_out, times),
            Product(1, height, columns_out, columns_in, times),  # gradient of what came in
            Product(1, columns_out, height, columns_in, times),  # gradient of the weights
        ]
    pairs = run.batch_size * shape.heads
    for asking, layers in ((length, below), (in_row, 1)):
        found.append(Product(pairs, asking, head, length, 3 * layers))
        found.append(Product(pairs, asking, length, head, 3 * layers))
    return [one for one in found if one.times]


def matmul(channel: Channel, run: str, seconds: float) -> None:
    """Operations a second of a step's matrix products, alone and all together, in both types."""
    folder = RunFolder.open(Path(run))
    device, _ = folder.compute()
    import torch

    at_once = 50 if device.type == "cuda" else 1  # to start one takes a GPU longer than to compute it

    def multiply(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
        for _ in range(at_once):
            torch.matmul(a, b, out=out)

    wanted = products(folder.config, folder.tokenizer().size)
    said: dict[str, Any] = {}
    for name in ("float32", "bfloat16"):
        dtype = getattr(torch, name)
        told = []
        for one in wanted:
            left = torch.randn(one.batch, one.rows, one.inner).to(device, dtype)
            right = torch.randn(one.batch, one.inner, one.columns).to(device, dtype)
            a, b = (left, right) if one.batch > 1 else (left[0], right[0])
            product = functools.partial(multiply, a, b, a @ b)
            told.append(_seconds({"product": product}, seconds)["product"] / at_once)
        operations = sum(one.operations * one.times for one in wanted)
        total = sum(spent * one.times for spent, one in zip(told, wanted, strict=True))
        said[name] = {
            "flops_per_second": operations / total,
            "best_flops_per_second": max(one.operations / s for one, s in zip(wanted, told, strict=True)),
            "step_seconds": total,
            "products": [
                {**one._asdict(), "flops_per_second": one.operations / s}
                for one, s in zip(wanted, told, strict=True)
            ],
        }
    channel.say(said)


def masking(channel: Channel, run: str, seconds: float) -> None:
    """Tokens a second that are masked: ours, Hugging Face's collator, and the annotated original's class.

    Each delivers what its model is to see and what it is to predict.
    """
    folder = RunFolder.open(Path(run))
    folder.compute()
    import torch

    from mlm import objectives
    from mlm.masking import strategy
    from mlm.randomness import Purpose, generator, uniform

    stated, n_tokens = folder.config, folder.tokenizer().size
    begins_word = torch.tensor(folder.tokenizer().begins_word)
    corrupt, tokens, steps = strategy(stated.masking), next(batches(folder)), itertools.count()

    def mine() -> None:
        draws = uniform(generator(stated.seed, Purpose.MASKING, next(steps)))
        corrupted = corrupt(tokens, stated.masking, draws, n_tokens=n_tokens, begins_word=begins_word, step=0)
        objectives.batch(tokens, corrupted, stated.causal)

    ways: dict[str, Callable[[], Any]] = {"mlm": mine}
    if not PEERS["hf-bf16"].missing:
        collate, special = collator(folder), tokens < config.N_SPECIAL
        chosen = rows(folder).select(range(len(tokens)))
        listed = [chosen[i] for i in range(len(tokens))]
        ways["hf-collator"] = lambda: collate(listed)
        ways["hf-collator, tensors"] = lambda: collate.torch_mask_tokens(tokens.clone(), special)
    if not PEERS["labml-nn"].missing:
        from mlm.bench_labml import masking as labml_masking

        masks, columns = labml_masking(folder), tokens.T.contiguous()
        ways["labml-nn"] = lambda: masks(columns.clone())
    channel.say({name: tokens.numel() / spent for name, spent in _seconds(ways, seconds).items()})


def encoding(channel: Channel, run: str, rounds: int, everything: bool) -> None:
    """Megabytes of UTF-8 text a second: our tokenizer and Hugging Face's tokenizers, equal vocabularies.

    Args:
        everything: encode the whole corpus on all cores, ours into shards on the disk, timed by the clock.
    """
    from tokenizers import Tokenizer

    from mlm import corpus, shards
    from mlm.export import fast_tokenizer

    folder = RunFolder.open(Path(run))
    tokenizer = folder.tokenizer()
    fast = Tokenizer.from_str(fast_tokenizer(tokenizer, folder.config.vocabulary.kind))
    names = corpus.SPLITS if everything else corpus.SPLITS[:1]
    text = "\n".join(text for split in names for _, text in corpus.read(folder.corpus, split))
    if not everything:
        text = text[:ENCODED_CHARACTERS]
    lines = text.split("\n")
    scratch = Path(run) / "encoded"

    def written() -> None:
        shards.write(folder.corpus, folder.vocabulary, scratch, machine.cores())
        shutil.rmtree(scratch)

    def theirs() -> list[list[int]]:
        return [found.ids for found in fast.encode_batch_fast(lines, add_special_tokens=False)]

    ours = written if everything else lambda: tokenizer.encode(text)
    ways: dict[str, Callable[[], Any]] = {"mlm": ours, "tokenizers": theirs}
    now = time.perf_counter if everything else clock  # ours has processes of its own
    spent = {name: [_once(way, now) for _ in range(rounds)] for name, way in ways.items()}
    size = len(text.encode()) / 1e6
    sample = lines[:1000]
    same = [one.ids for one in fast.encode_batch_fast(sample, add_special_tokens=False)]
    mine = [ids for line in sample for ids in tokenizer.encode_lines(line)]
    said = {name: size / statistics.median(seconds) for name, seconds in spent.items()}
    channel.say({"megabytes_per_second": said, "megabytes": size, "equal": same == mine})


def _once(way: Callable[[], Any], now: Callable[[], float]) -> float:
    begun = now()
    way()
    return now() - begun


def _seconds(ways: Mapping[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Median seconds of CPU of a call of each, taken in turns for about so long each, after a first call."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    ends = time.perf_counter() + seconds * len(ways)
    while time.perf_counter() < ends or not all(spent.values()):
        for name, way in ways.items():
            spent[name].append(_once(way, clock))
    return {name: statistics.median(found) for name, found in spent.items()}
