"""Bits per byte: every token once, the same bytes for every vocabulary, and what tokens do not tell is paid."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from analysis import labels, runs
from mlm import bits, checks, config, corpus, experiment, figures, measured, measures, schedules, shards
from mlm.encoder import Encoder
from mlm.errors import Damaged, InputError
from mlm.experiment import BitsPerByte, Experiment, Measures
from mlm.runs import RunFolder
from mlm.vocabulary import Tokenizer
from tests.mlm.places import EXPERIMENT, TEXT, copy_of, done, seal
from tests.mlm.test_hugging_face import prepare, wordpiece

FILE = Path("experiments/trial.yaml")
ASKED = Measures(bits_per_byte=BitsPerByte())
SENTENCEPIECES = ("unigram", "bpe", "char")
KINDS = (*SENTENCEPIECES, "wordpiece")
WHOLE = BitsPerByte(bytes=10**9)


@pytest.fixture(scope="module")
def vocabularies(
    vocabularies: dict[str, Tokenizer], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Tokenizer]:
    """Those that are trained here, and a WordPiece, which tells no blank beside punctuation from none."""
    folder = wordpiece(tmp_path_factory.mktemp("wordpiece"), TEXT.split("\n"), do_lower_case=False)
    return {**vocabularies, "wordpiece": prepare(folder, folder / "vocabulary.model")}


def run(**stated: Any) -> config.Run:
    return config.Run.model_validate({"objective": "causal", **stated})


class Frequencies(Encoder):
    """Gives every token a probability of its own, whatever stands before it."""

    def __init__(self, size: int, seed: int | None = None) -> None:
        super().__init__(config.Encoder.model_validate({}), size, 0, torch.float32)
        self.scores = torch.zeros(size)
        if seed is not None:
            self.scores = torch.randn(size, generator=torch.Generator().manual_seed(seed))

    def hidden(self, tokens: Any, *, at: Any = None, **_: Any) -> Any:
        return [tokens.gather(1, at)]

    def logits(self, x: Any) -> Any:
        return self.scores.expand(*x.shape, -1)


@given(st.integers(2, 90), st.integers(2, 24))
def test_every_token_but_the_first_counts_once_with_half_a_window_before_it(n: int, length: int) -> None:
    seen, counted = bits.windows(list(range(7, 7 + n)), length)
    assert seen[counted].tolist() == list(range(8, 7 + n)), "in their order"
    assert seen.shape[1] == length
    row, at = counted.nonzero().T
    assert bool((at[row > 0] >= length / 2).all())
    assert bool((seen[row, at - 1] == seen[row, at] - 1).all()), "and behind the token before it"
    assert not counted[:, 0].any() and bool(counted.any(1).all())


@given(st.integers(2, 40), st.lists(st.integers(0, 30), min_size=2, max_size=300))
def test_without_context_it_is_the_sum_over_the_tokens_at_any_length(length: int, tokens: list[int]) -> None:
    model = Frequencies(31, seed=1)
    direct = -model.scores.double().log_softmax(0)[tokens[1:]].sum()
    assert bits.nats(model, tokens, length) == pytest.approx(float(direct), rel=1e-6)


@pytest.mark.parametrize(("preset", "length"), [("modern", 8), ("modern", 9), ("bert", 8), ("bert", 80)])
def test_with_context_it_is_what_each_prefix_predicts(preset: str, length: int) -> None:
    """Against one pass a token, over nothing but what stands before it in its window."""
    of = run(
        encoder={"preset": preset, "layers": 2, "width": 16, "heads": 2, "max_positions": 80},
        sequence_length=length,
    )
    model = Encoder(of.encoder, 40, 0, torch.float32).eval()
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draws) * 0.3)
    model.pattern = schedules.pattern(of, 1.0)
    tokens = torch.randint(5, 40, (61,), generator=draws).tolist()
    step, total = length // 2, 0.0
    for number in range(1, len(tokens)):
        begin = step * max(0, math.ceil((number + 1 - length) / step))
        with torch.no_grad():
            logits = model(torch.tensor([tokens[begin:number]]))[0, -1]
        total -= float(logits.double().log_softmax(0)[tokens[number]])
    assert bits.nats(model, tokens, length) == pytest.approx(total, rel=1e-5)
    changed = bits.nats(model, [(tokens[0] + 1) % 35 + 5, *tokens[1:]], length)
    assert changed != pytest.approx(total, rel=1e-5), "the first is read, though not predicted"


@pytest.mark.parametrize(("kind", "length"), list(product(KINDS, (16, 65))))
def test_a_model_that_knows_nothing_pays_the_logarithm_of_the_vocabulary(
    prepared: Path, vocabularies: dict[str, Tokenizer], kind: str, length: int
) -> None:
    tokenizer = vocabularies[kind]
    found = bits.measure(Frequencies(tokenizer.size), run(sequence_length=length), tokenizer, prepared, WHOLE)
    counts, references = found["counts"], found["references"]
    assert counts["unknown_tokens"] == counts["spelled_bytes"] == 0
    expected = math.log2(tokenizer.size) * counts["tokens"] / counts["bytes"] + references["layout"]
    assert found["values"][measures.BITS_PER_BYTE] == pytest.approx(expected, rel=1e-6)
    assert (references["layout"] == 0) == (kind == "char")
    if kind == "char":
        documents = list(corpus.read(prepared, "test"))
        assert counts["tokens"] == sum(len(text) for _, text in documents) + len(documents) - 1


@pytest.mark.parametrize("most", [5_000, 20_000, 10**9])
def test_every_vocabulary_pays_for_the_same_bytes_and_reads_what_its_shard_has(
    prepared: Path, tmp_path: Path, vocabularies: dict[str, Tokenizer], most: int
) -> None:
    parts = bits.beginning(prepared, most)
    text = "".join(part for _, part in parts)
    whole = "".join(part for _, part in corpus.read(prepared, "test"))
    assert whole.startswith(text) and text.endswith("\n")
    assert len(text.encode()) <= most and (text == whole or len(text.encode()) > most - 200)
    found = {}
    for kind, tokenizer in vocabularies.items():
        (tmp_path / kind).write_bytes(tokenizer.model)
        shards.write(prepared, tmp_path / kind, tmp_path / f"{kind}-shards")
        written = shards.read(tmp_path / f"{kind}-shards")["test"].tokens
        first, *tokens = bits.encode(tokenizer, parts)
        assert first == config.SEP and tokens == written[: len(tokens)].tolist()
        assert text != whole or len(tokens) == len(written) - 1, "nothing comes behind the last document"
        asked = BitsPerByte(bytes=most)
        found[kind] = bits.measure(Frequencies(tokenizer.size), run(), tokenizer, prepared, asked)
    assert {one["counts"]["bytes"] for one in found.values()} == {len(text.encode())}
    assert found["unigram"]["references"] == found["bpe"]["references"]


PIECES = st.sampled_from(["to", "be", "or", "not"])
BLANKS = st.sampled_from([" ", "\n", "\n\n", "  "])


@given(st.lists(st.tuples(PIECES, BLANKS), min_size=1, max_size=20))
def test_tokens_and_layout_together_tell_the_text(
    vocabularies: dict[str, Tokenizer], parts: list[tuple[str, str]]
) -> None:
    text = "".join(word + blank for word, blank in parts)
    tokenizer = vocabularies["unigram"]
    words = tokenizer.decode(tokenizer.encode(text)).split()
    stretches = [blank for _, blank in parts]
    assert "".join(map("".join, zip(words, stretches, strict=True))) == text
    shares = [stretches.count(one) / len(stretches) for one in stretches]
    assert bits.layout(tokenizer, text) == pytest.approx(-sum(map(math.log2, shares)))
    assert bits.layout(vocabularies["char"], text) == 0
    assert vocabularies["char"].decode(vocabularies["char"].encode(text)) == text


@given(
    st.lists(st.tuples(st.sampled_from(["to", "be;", "(or)", "it's", "not"]), BLANKS), min_size=1, max_size=20)
)
def test_that_nothing_stands_beside_punctuation_is_told_where_a_blank_might(
    vocabularies: dict[str, Tokenizer], parts: list[tuple[str, str]]
) -> None:
    text = "".join(word + blank for word, blank in parts)
    tokenizer = vocabularies["wordpiece"]
    assert bits.spelled(tokenizer, text) == 0
    stretches = re.findall(r"(?:\w+|[^\w\s])(\s*)", text)
    shares = [stretches.count(one) / len(stretches) for one in stretches]
    assert bits.layout(tokenizer, text) == pytest.approx(-sum(map(math.log2, shares)))


@given(
    st.sampled_from(SENTENCEPIECES),
    st.text(st.characters(codec="utf-8") | st.sampled_from(" \n;'¨▁ﬁ"), max_size=40),
)
def test_to_a_sentencepiece_a_word_is_one_whatever_is_in_it(
    vocabularies: dict[str, Tokenizer], kind: str, text: str
) -> None:
    """To the last bit: what stands between words is all that is told, and an inner blank is a word lost."""
    tokenizer, told = vocabularies[kind], Counter(re.findall(r"\s+", text))
    lost = [word for word in text.split() if tokenizer.decode(*tokenizer.encode_words([word])).strip() != word]
    assert bits.spelled(tokenizer, text) == len("".join(lost).encode())
    entropy = sum(count * math.log2(told.total() / count) for count in told.values())
    assert bits.layout(tokenizer, text) == (0 if kind == "char" else entropy)


@pytest.mark.parametrize("kind", KINDS)
def test_a_word_that_does_not_come_back_is_spelled(
    prepared: Path, vocabularies: dict[str, Tokenizer], kind: str
) -> None:
    tokenizer, text = vocabularies[kind], "a class\nx漢字y of 漢 and 漢\n"
    (prepared / "test.jsonl").write_text(json.dumps({"document": "d", "text": text}) + "\n")
    seal(prepared)
    found = bits.measure(Frequencies(tokenizer.size), run(), tokenizer, prepared, WHOLE)
    counts = found["counts"]
    assert counts["spelled_bytes"] == len("x漢字y漢漢".encode()) == 14
    assert counts["unknown_tokens"] == tokenizer.encode(text).count(config.UNK) >= 3
    assert counts["bytes"] == len(text.encode())
    expected = math.log2(tokenizer.size) * counts["tokens"] + 8 * 14 + bits.layout(tokenizer, text)
    assert found["values"][measures.BITS_PER_BYTE] * counts["bytes"] == pytest.approx(expected, rel=1e-6)


def test_what_a_vocabulary_normalises_is_spelled_too(vocabularies: dict[str, Tokenizer]) -> None:
    for text in ("the class", "a string, or\ta [MASK]", "it's (a) class; not so"):
        assert all(bits.spelled(tokenizer, text) == 0 for tokenizer in vocabularies.values())
    assert bits.spelled(vocabularies["unigram"], "the ﬁeld") == len("ﬁeld".encode())


def test_a_beginning_without_a_whole_line_is_refused(prepared: Path) -> None:
    with pytest.raises(InputError, match=r"bits_per_byte\.bytes: the first 3 of .* no whole line .* give more"):
        bits.beginning(prepared, 3)
    (prepared / "test.jsonl").write_text("{}\n")
    with pytest.raises(Damaged, match=r"test\.jsonl"):
        bits.beginning(prepared, 1000)


def test_a_run_of_each_kind_by_command(
    place: Path, tmp_path: Path, modern: RunFolder, typed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of(place, tmp_path / "copy")
    done(typed(folder, "train", "trial", "--arm", "80-10-10", "--scale", "test", "--set", "objective=causal"))
    left = next((folder / "results" / "runs").glob("*/run.json")).parent
    take = ("--with", "bits_per_byte={bytes: 6000}", "--take")
    for name in ("one", "other"):
        done(typed(folder, "measure", left.name, *take, f"bits_per_byte={left}/{name}.json"))
    found = runs.measured(left, "one.json", "bits_per_byte", "finished")
    assert found == runs.measured(left, "other.json", "bits_per_byte", "finished") is not None
    opened = RunFolder.open(left)
    assert list(found.values) == measured.names(opened.config, ASKED, ())
    # Forty steps bring a model below guessing, and not below the layout.
    guess = math.log2(opened.tokenizer().size) * found.counts["tokens"] / found.counts["bytes"]
    assert found.references["layout"] < found.values[measures.BITS_PER_BYTE] < guess
    masked = tmp_path / modern.path.name
    masked.mkdir()
    done(typed(place, "measure", modern.path.name, *take, f"bits_per_byte={masked}/one.json"))
    empty = runs.measured(masked, "one.json", "bits_per_byte", "finished")
    assert empty is not None and (empty.values, empty.counts) == ({}, {"bytes": 0})


ARMS = {
    "masked": run(objective="mlm"),
    "left": run(),
    "longer": run(sequence_length=256),
    "bpe": run(vocabulary={"kind": "bpe", "size": 1024}),
    "english": run(corpus="english"),
}


def contrasts(arm: str, against: str, stated: Measures) -> list[str]:
    content = EXPERIMENT | {
        "arms": {name: {} for name in ARMS},
        "baseline": against,
        "primary_measure": measures.BITS_PER_BYTE,
        "contrasts": {"primary": {"arm": arm}},
    }
    known = {name: measured.names(one, stated, ()) for name, one in ARMS.items()}
    return list(checks.contrasts(FILE, Experiment.model_validate(content), ARMS, known))


def test_causal_arms_compare_across_vocabularies_and_lengths() -> None:
    assert not contrasts("bpe", "left", ASKED) and not contrasts("longer", "bpe", ASKED)


@pytest.mark.parametrize(("arm", "against"), [("masked", "left"), ("left", "masked")])
def test_masked_arms_have_no_such_value_and_a_contrast_with_one_is_refused(arm: str, against: str) -> None:
    assert measured.names(ARMS["masked"], ASKED, ()) == []
    (said,) = contrasts(arm, against, ASKED)
    assert said.startswith(f"{FILE}: primary_measure: bits.per_byte exists only for causal arms")
    assert re.search("compare two of those, with `bits_per_byte: {}`", said)


def test_it_is_to_be_switched_on_and_of_one_text() -> None:
    assert "`bits_per_byte: {}` in `measures:`" in contrasts("bpe", "left", Measures(evaluation={}))[0]
    (said,) = contrasts("english", "left", ASKED)
    assert "of the text of corpus english and of shakespeare; compare on one corpus" in said


def test_fewer_are_better_and_a_reader_sees_the_name() -> None:
    assert measures.better(measures.BITS_PER_BYTE) == "lower"
    assert labels.measure(measures.BITS_PER_BYTE) == "bits per byte"
    with pytest.raises(ValueError, match="bits is taken"):
        Measures.model_validate({"plugins": {"bits": "a:b"}})
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        BitsPerByte(bytes=0)


def test_a_figure_of_causal_arms_alone_can_be_drawn_and_of_masked_ones_not() -> None:
    known = {name: measured.names(one, ASKED, ()) for name, one in ARMS.items()}
    for arms, problems in ((["left", "bpe"], 0), (["masked"], 1)):
        asked = {"kind": "dose", "measure": measures.BITS_PER_BYTE, "x": "vocabulary.size", "arms": arms}
        figure = figures.Figure.model_validate(asked)
        assert (
            len(list(figures.problems(str(FILE), [figure], "probe.accuracy", list(ARMS), ARMS, known)))
            == problems
        )


def test_trials_of_learning_rates_do_without() -> None:
    tune = experiment.Tune.model_validate({"learning_rates": [1e-3, 2e-3, 4e-3], "seeds": [9]})
    whole = Experiment.model_validate(EXPERIMENT | {"measures": {"bits_per_byte": {}}})
    assert experiment.trials(whole, tune).measures["bits_per_byte"] is None
