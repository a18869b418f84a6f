"""How each contestant of the benchmark trains one step of a shape, its masks its own.

A contestant is a function `(run, done, …)` that trains what the run states, on its text, and calls
`done` after every step; `done` may take its time, and ends the training by raising.
"""

import importlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from mlm import config

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mlm.runs import RunFolder

OURS = "mlm"


class Learner(NamedTuple):
    """What a contestant shows after a step."""

    tokens: int
    """Of a step."""
    parameters: int
    logits: "Callable[[Tensor], Tensor]"
    """[rows, length] tokens -> [rows, length, n_tokens], as the contestant would evaluate itself."""
    attention: str | None = None
    """The kind it was found to be faster with, where it has a choice."""


Done = Callable[[Learner], None]


class Peer(NamedTuple):
    """A contestant: what it is, and the packages that it needs beside this project's own."""

    function: str
    title: str
    packages: tuple[str, ...] = ()

    def load(self) -> Callable[..., None]:
        """The contestant."""
        module, _, name = self.function.partition(":")
        found: Callable[..., None] = getattr(importlib.import_module(f"mlm.{module}"), name)
        return found

    @property
    def missing(self) -> list[str]:
        """Packages that are not installed."""
        return [name for name in self.packages if find_spec(name) is None]


PEERS = {
    OURS: Peer("bench_peers:ours", "this package, as a study trains here"),
    "hf-trainer": Peer(
        "bench_peers:hf_trainer",
        "Hugging Face Trainer, BertForMaskedLM, float32, its defaults",
        ("transformers", "datasets", "accelerate"),
    ),
    "hf-bf16": Peer(
        "bench_peers:hf_loop",
        "the same model in a bare loop, bfloat16 autocast, torch's AdamW, the faster kind of attention",
        ("transformers", "datasets"),
    ),
    "labml-nn": Peer(
        "bench_labml:train",
        "labml-nn's encoder, masking and Noam in its own training step",
        ("labml_nn", "labml"),
    ),
}
"""Name -> contestant; all but the first are peers."""


def ours(run: "RunFolder", done: Done, *, once: bool = False) -> None:
    """What `python -m mlm train` does; `once` stops at the end of the run's budget."""
    from mlm.single import trainer_of

    trainer = trainer_of(run)
    learner = Learner(run.config.tokens_per_step, count(trainer.encoder), trainer.encoder)
    for number in itertools.count():
        if number == run.config.steps and once:
            return
        trainer.step(number % run.config.steps)
        done(learner)


def bert(run: "RunFolder") -> "nn.Module":
    """Hugging Face's BertForMaskedLM of a run's shape, otherwise as its own defaults have it."""
    from transformers import BertConfig, BertForMaskedLM

    shape = run.config.encoder
    model: nn.Module = BertForMaskedLM(
        BertConfig(
            vocab_size=run.tokenizer().size,
            hidden_size=shape.width,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            intermediate_size=shape.feedforward_width,
            max_position_embeddings=shape.max_positions,
        )
    )
    return model


def collator(run: "RunFolder") -> Any:
    """Hugging Face's collator, which masks, over a tokenizer of the same vocabulary."""
    from tokenizers import Tokenizer
    from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

    from mlm.export import fast_tokenizer
    from mlm.hugging_face_tokenizer import SPECIAL

    fast = Tokenizer.from_str(fast_tokenizer(run.tokenizer(), run.config.vocabulary.kind))
    named = dict(zip(SPECIAL, config.SPECIAL_TOKENS, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=fast, **named)  # type: ignore[no-untyped-call]
    return DataCollatorForLanguageModeling(tokenizer)


def rows(run: "RunFolder") -> Any:
    """The training text as Hugging Face's example script has it: a `datasets.Dataset` of windows."""
    import numpy as np
    from datasets import Dataset

    length = run.config.sequence_length
    tokens = stream(run)
    windows = tokens[: len(tokens) // length * length].reshape(-1, length)
    special = (windows < config.N_SPECIAL).astype(np.int64)
    content = {"input_ids": windows, "attention_mask": np.ones_like(windows), "special_tokens_mask": special}
    return Dataset.from_dict({name: list(value) for name, value in content.items()})


def hf_trainer(run: "RunFolder", done: Done, **arguments: Any) -> None:
    """`transformers.Trainer`; without `arguments` it trains for ever with the batches of the run."""
    import tempfile

    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    torch.set_num_threads(1)
    torch.manual_seed(run.config.seed)
    model = bert(run)
    stated = arguments or {"max_steps": 10**9, "per_device_train_batch_size": run.config.batch_size}
    with tempfile.TemporaryDirectory() as folder:
        options = TrainingArguments(
            output_dir=folder,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=run.numerics.device == "cpu",
            seed=run.config.seed,
            **stated,
        )
        tokens = options.per_device_train_batch_size * run.config.sequence_length
        learner = Learner(tokens, count(model), at_rest(model, lambda inputs: model(input_ids=inputs).logits))

        class Told(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, *_: Any, **__: Any) -> None:
                done(learner)

        Trainer(
            model=model, args=options, train_dataset=rows(run), data_collator=collator(run), callbacks=[Told()]
        ).train()


def hf_loop(
    run: "RunFolder",
    done: Done,
    *,
    learning_rate: float = 5e-5,
    warmup: int = 0,
    steps: int = 10**9,
    attention: str | None = None,
    dtype: str = "bfloat16",
) -> None:
    """Hugging Face's model in a bare loop; linear warm-up, then linear decay to the last step.

    Args:
        dtype: "bfloat16" for its autocast, or "float32", without.
        attention: "sdpa", its default, or "eager"; unless told, the one that is faster here.
    """
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(run.config.seed)
    device = run.numerics.device
    model, masks = bert(run).to(device), collator(run)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)

    def autocast() -> torch.autocast:
        return torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")

    def differentiate(tokens: "Tensor") -> None:
        inputs, labels = masks.torch_mask_tokens(tokens, tokens < config.N_SPECIAL)
        with autocast():
            loss = model(input_ids=inputs.to(device), labels=labels.to(device)).loss
        optimizer.zero_grad()
        loss.backward()

    if attention is None:
        first = next(batches(run))
        attention = _faster(model, ("sdpa", "eager"), lambda: differentiate(first.clone()))
        torch.manual_seed(run.config.seed)
    model.set_attn_implementation(attention)  # type: ignore[operator]

    def logits(inputs: "Tensor") -> "Tensor":
        with autocast():
            found: Tensor = model(input_ids=inputs).logits
        return found

    learner = Learner(run.config.tokens_per_step, count(model), at_rest(model, logits), attention)
    for number, tokens in enumerate(itertools.islice(batches(run), steps)):
        rate = min((number + 1) / warmup if warmup else 1.0, (steps - number) / (steps - warmup))
        optimizer.param_groups[0]["lr"] = learning_rate * rate
        differentiate(tokens)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        done(learner)


def _faster(model: Any, kinds: Sequence[str], differentiate: Callable[[], None]) -> str:
    """The kind of attention with which a model's gradients come sooner: the best of two goes each, in turns."""
    from mlm.bench_process import clock

    spent: dict[str, list[float]] = {kind: [] for kind in kinds}
    for kind in (*kinds, *kinds):
        model.set_attn_implementation(kind)
        begun = clock()
        differentiate()
        spent[kind].append(clock() - begun)
    return min(kinds, key=lambda kind: min(spent[kind]))


def at_rest(model: "nn.Module", forward: "Callable[[Tensor], Tensor]") -> "Callable[[Tensor], Tensor]":
    """The forward pass without dropout, of a model that is in training before and after it."""

    def logits(inputs: "Tensor") -> "Tensor":
        model.eval()
        found = forward(inputs)
        model.train()
        return found

    return logits


def stream(run: "RunFolder") -> Any:
    """[n_tokens] int64 tokens of the training text."""
    from mlm import shards

    return shards.read(run.shards, run.vocabulary)["train"].tokens.astype("int64")


def batches(run: "RunFolder") -> "Iterator[Tensor]":
    """[batch_size, length] int64 tokens of one step after another, without an end."""
    from mlm.batches import Batches

    found = Batches(stream(run), run.config.seed, run.config.batch_size, run.config.sequence_length)
    return map(found, itertools.count())


def count(model: "nn.Module") -> int:
    """Parameters of a model."""
    return sum(parameter.numel() for parameter in model.parameters())
