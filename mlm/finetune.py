"""Fine-tuning of a whole encoder on a sentence task: what its weights are worth as a beginning.

The mean of the last hidden states goes through a linear layer (Devlin et al. 2018, §4.1, with the mean
in place of [CLS], which these models are not trained with). How well that ends depends on the draws of
head and order (Dodge et al. 2020, arXiv 2002.06305), so that a model is fine-tuned several times and the
mean is reported, before anything is compared (Sellam et al. 2021, MultiBERTs, arXiv 2106.16163). Draws
follow from the number of the restart alone: models that are compared share them.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mlm import config, schedules
from mlm.block import Linear
from mlm.encoder import INITIAL_DEVIATION, Encoder
from mlm.experiment import Finetuning
from mlm.optimizer import AdamW
from mlm.probe import Labels
from mlm.progress import Progress
from mlm.randomness import Purpose, Uniform, generator, uniform_on
from mlm.sentence_probe import counts, encode, parts, references
from mlm.tasks import Example
from mlm.vocabulary import Tokenizer

ROWS = 64  # sentences a forward pass, where nothing is learnt


class Classifier(nn.Module):
    """A copy of an encoder with a linear layer over the mean of its last states.

    Args:
        encoder: is left as it is.
        restart: decides the new layer's weights.
    """

    def __init__(self, encoder: Encoder, n_classes: int, restart: int) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        self.head = Linear(encoder.options.width, n_classes, bias=True)
        draws = generator(restart, Purpose.FINETUNING, name="head")
        values = draws.standard_normal(tuple(self.head.weight.shape), dtype="float32") * INITIAL_DEVIATION
        self.head.weight.data = torch.from_numpy(values)
        self.to(encoder.embedding.device)

    def forward(
        self,
        tokens: Int[Tensor, "rows length"],
        visible: Bool[Tensor, "rows length"],
        uniform: Uniform | None = None,
    ) -> Float[Tensor, "rows n_classes"]:
        """Logits in float32; `uniform` is the source of dropout's draws, None means no dropout."""
        last = self.encoder.hidden(tokens, visible=visible, uniform=uniform)[-1]
        states = self.encoder.final_norm(last).float() * visible[:, :, None]
        logits: Tensor = self.head(states.sum(1) / visible.sum(1, keepdim=True))
        return logits


def padded(encoded: Sequence[Sequence[int]], limit: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """[rows, longest] token ids, cut behind `limit`, and where they are no padding."""
    length = min(max(map(len, encoded)), limit)
    tokens = torch.full((len(encoded), length), config.PAD)
    visible = torch.zeros((len(encoded), length), dtype=torch.bool)
    for row, ids in enumerate(encoded):
        cut = ids[:length]
        tokens[row, : len(cut)] = torch.tensor(cut)
        visible[row, : len(cut)] = True
    return tokens.to(device), visible.to(device)


def train(
    encoder: Encoder,
    encoded: Sequence[Sequence[int]],
    classes: Labels,
    n_classes: int,
    settings: Finetuning,
    restart: int,
    progress: Progress,
) -> Classifier:
    """One training of a copy of the encoder.

    Args:
        encoded: token ids of the training sentences.
        classes: their class numbers.
    """
    model = Classifier(encoder, n_classes, restart)
    device, limit = encoder.embedding.device, encoder.options.max_positions
    truth = torch.from_numpy(classes)
    steps = settings.epochs * -(-len(encoded) // settings.batch_size)
    warmup = round(settings.warmup_share * steps)
    options = config.Optimizer(  # counted in steps here
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_tokens=warmup,
        decay_tokens=steps - warmup,
    )
    optimizer = AdamW(model, options)
    number = 0
    for epoch in range(settings.epochs):
        order = generator(restart, Purpose.FINETUNING, epoch, name="order").permutation(len(encoded))
        for begin in range(0, len(order), settings.batch_size):
            chosen = order[begin : begin + settings.batch_size]
            tokens, visible = padded([encoded[i] for i in chosen], limit, device)
            dropout = uniform_on(device, restart, Purpose.FINETUNING, number)
            logits = model(tokens, visible, dropout)
            loss = cross_entropy(logits, truth[chosen].to(device))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step(number + 1, schedules.learning_rate(options, steps, number, number + 1))
            number += 1
            progress.add(len(chosen))
    return model


@torch.no_grad()
def predict(model: Classifier, encoded: Sequence[Sequence[int]]) -> Labels:
    """The likeliest class of each sentence."""
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    device, limit = model.encoder.embedding.device, model.encoder.options.max_positions
    found = np.zeros(len(encoded), np.int64)
    for begin in range(0, len(order), ROWS):
        chosen = order[begin : begin + ROWS]
        logits = model(*padded([encoded[i] for i in chosen], limit, device))
        found[chosen] = logits.argmax(1).cpu().numpy()
    return found


def measure(
    encoder: Encoder, tokenizer: Tokenizer, examples: Sequence[Example], name: str, settings: Finetuning
) -> dict[str, Any]:
    """Accuracy on held-out sentences, the mean over the restarts; none where one of them diverged.

    Args:
        encoder: is left as it is; computes in its own dtype.
        examples: of `tasks.read`.
        name: of the task; the measure is called finetune.NAME.accuracy.

    Returns:
        `values`, `references` (the most frequent class and the words, as for the probe) and `counts`.
    """
    learnt, asked, n_classes = parts(examples)
    train_ids, test_ids = encode(tokenizer, learnt.texts), encode(tokenizer, asked.texts)
    total = settings.restarts * settings.epochs * len(train_ids)
    progress = Progress(f"fine-tuning on {name}", total, "sentences")
    found, diverged = [], 0
    for restart in range(settings.restarts):
        model = train(encoder, train_ids, learnt.classes, n_classes, settings, restart, progress)
        found.append(float(np.mean(predict(model, test_ids) == asked.classes)))
        diverged += not bool(model.head.weight.isfinite().all())
    return {
        "values": {} if diverged else {f"finetune.{name}.accuracy": float(np.mean(found))},
        "references": references(examples, name),
        "counts": {**counts(examples), "restarts": settings.restarts, "diverged": diverged},
    }
