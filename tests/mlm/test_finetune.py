"""Fine-tuning: exact, repeatable, on a copy, and it learns."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from mlm import config
from mlm.encoder import Encoder
from mlm.finetune import Classifier, Finetuning, measure, padded, predict, train
from mlm.optimizer import AdamW
from mlm.progress import Progress
from mlm.tasks import Example
from mlm.vocabulary import Tokenizer
from tests.mlm.test_sentence_probe import SOME, WORDS, encoder

QUICK = Finetuning(restarts=2, epochs=2, learning_rate=3e-3)


def separable(n: int, seed: int, held_out: bool) -> list[Example]:
    """Two classes by the order of two words: the words alone say nothing."""
    source, found = np.random.default_rng(seed), []
    for _ in range(n):
        padding = " ".join(WORDS[i] for i in source.integers(len(WORDS), size=source.integers(0, 4)))
        first = bool(source.integers(2))
        pair = "class function" if first else "function class"
        found.append(Example(f"{pair} {padding}", str(first), held_out))
    return found


def trained(
    model: Encoder, ids: Sequence[Sequence[int]], labels: Sequence[int], settings: Finetuning, restart: int = 0
) -> Classifier:
    progress = Progress("fine-tuning", None, "sentences")
    return train(model, ids, np.array(labels), max(labels) + 1, settings, restart, progress)


@pytest.mark.parametrize("preset", ["bert", "modern"])
def test_it_learns_what_no_bag_of_words_can(preset: str, vocabularies: dict[str, Tokenizer]) -> None:
    data = separable(400, 0, False) + separable(100, 1, True)
    settings = Finetuning(restarts=1, epochs=8, learning_rate=3e-3)
    found = measure(encoder(preset=preset), vocabularies["unigram"], data, "toy", settings)
    assert set(found["values"]) == {"finetune.toy.accuracy"}
    assert found["references"]["toy.majority.accuracy"] < 0.6
    assert found["references"]["toy.words.accuracy"] < 0.65
    assert found["values"]["finetune.toy.accuracy"] > 0.9


@pytest.mark.parametrize("preset", ["bert", "modern"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_bits_twice_and_the_given_encoder_unchanged(
    dtype: torch.dtype, preset: str, vocabularies: dict[str, Tokenizer]
) -> None:
    """Also with dropout, which `bert` has, and where the parameters are views of an optimizer's buffer."""
    model, tokenizer = encoder(preset=preset), vocabularies["unigram"]
    model.dtype = dtype
    buffers = AdamW(model, config.Optimizer())
    before = buffers.parameters.clone()
    ids, labels = [tokenizer.encode(e.text) for e in SOME[:120]], [int(e.label[-1]) for e in SOME[:120]]
    torch.manual_seed(1)
    one = trained(model, ids, labels, QUICK)
    torch.manual_seed(2)
    two = trained(model, ids, labels, QUICK)
    other = trained(model, ids, labels, QUICK, restart=1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.head.weight, other.head.weight)
    assert torch.equal(buffers.parameters, before)
    assert not buffers.gradients.any()
    for name in ("embedding", "blocks.0.query_key_value.weight", "blocks.1.feedforward_out.weight"):
        assert not torch.equal(one.encoder.get_parameter(name), model.get_parameter(name))


def test_dropout_acts_while_it_learns_and_not_when_asked(vocabularies: dict[str, Tokenizer]) -> None:
    tokenizer = vocabularies["unigram"]
    ids, labels = [tokenizer.encode(e.text) for e in SOME[:64]], [int(e.label[-1]) for e in SOME[:64]]
    with_it, without = (trained(encoder(dropout=rate), ids, labels, QUICK) for rate in (0.3, 0.0))
    assert not torch.equal(with_it.head.weight, without.head.weight)
    assert (predict(with_it, ids) == predict(with_it, ids[::-1])[::-1]).all()


def test_the_accuracy_is_the_mean_over_the_restarts(vocabularies: dict[str, Tokenizer]) -> None:
    tokenizer, model = vocabularies["unigram"], encoder()
    found = measure(model, tokenizer, SOME, "toy", QUICK)
    ids = {part: [tokenizer.encode(e.text) for e in SOME if e.held_out == part] for part in (False, True)}
    labels = {part: [int(e.label[-1]) for e in SOME if e.held_out == part] for part in (False, True)}
    single = [
        float((predict(trained(model, ids[False], labels[False], QUICK, n), ids[True]) == labels[True]).mean())
        for n in range(2)
    ]
    assert found["values"]["finetune.toy.accuracy"] == pytest.approx(np.mean(single), abs=1e-12)
    assert found["counts"] == {
        "train_sentences": 300,
        "test_sentences": 100,
        "classes": 3,
        "restarts": 2,
        "diverged": 0,
    }


@pytest.mark.parametrize("preset", ["bert", "modern"])
def test_logits_are_of_the_mean_of_the_normed_last_states(
    preset: str, vocabularies: dict[str, Tokenizer]
) -> None:
    """The definition, a sentence at a time; padding and what is beyond the positions change nothing."""
    model = Classifier(encoder(preset=preset), 4, 0)
    ids = [vocabularies["unigram"].encode(text) for text in ("class", " ".join(WORDS[:60]), WORDS[9])]
    assert len(ids[1]) > 40
    with torch.no_grad():
        found = model(*padded(ids, 40, torch.device("cpu")))
        for row, one in zip(found, ids, strict=True):
            states = model.encoder.final_norm(model.encoder.hidden(torch.tensor([one[:40]]))[-1])[0]
            expected = model.head.weight @ states.mean(0) + model.head.bias
            torch.testing.assert_close(row, expected, atol=1e-5, rtol=0)


def test_a_step_is_one_of_pytorchs_adamw_at_the_stated_rate(vocabularies: dict[str, Tokenizer]) -> None:
    """Two batches without warm-up: rate 1 and 1/2 of the stated one, whole-batch cross-entropy."""
    tokenizer, model = vocabularies["unigram"], encoder(dropout=0.0)
    ids, labels = [tokenizer.encode(e.text) for e in SOME[:16]], [int(e.label[-1]) for e in SOME[:16]]
    settings = Finetuning(epochs=2, batch_size=16, learning_rate=1e-3, warmup_share=0.0)
    found = trained(model, ids, labels, settings)
    expected = Classifier(model, 3, 0)
    matrices = [p for p in expected.parameters() if p.dim() > 1]
    vectors = [p for p in expected.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-8)
    for rate in (1e-3, 5e-4):
        for group in reference.param_groups:
            group["lr"] = rate
        logits = expected(*padded(ids, 40, torch.device("cpu")))
        torch.nn.functional.cross_entropy(logits, torch.tensor(labels)).backward()
        torch.nn.utils.clip_grad_norm_(expected.parameters(), 1.0)
        for p in expected.parameters():
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        reference.step()
        reference.zero_grad()
    for (name, a), b in zip(found.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=0, msg=lambda m, name=name: f"{name}: {m}")


def test_a_training_that_diverged_gives_no_value(vocabularies: dict[str, Tokenizer]) -> None:
    wild = Finetuning(restarts=1, epochs=2, learning_rate=1e30)
    found = measure(encoder(), vocabularies["unigram"], SOME, "toy", wild)
    assert found["values"] == {}
    assert found["counts"]["diverged"] == 1


def test_settings_are_read_strictly() -> None:
    for wrong in ({"restarts": 0}, {"warmup_share": 1.5}, {"learning_rate": 0.0}, {"epoch": 3}):
        with pytest.raises(ValidationError):
            Finetuning.model_validate(wrong)
    assert Finetuning.model_validate({"epochs": 2}).epochs == 2


def test_a_person_is_told_how_long_it_takes(
    vocabularies: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mlm.progress.EVERY_SECONDS", 0.0)
    settings = Finetuning(restarts=1, epochs=1, batch_size=100)
    measure(encoder(), vocabularies["unigram"], SOME, "toy", settings)
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("fine-tuning on toy: 100 sentences of 300, about ")
    assert len(told) == 3
