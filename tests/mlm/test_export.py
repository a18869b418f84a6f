"""A `bert` encoder and its vocabulary, in and out of Hugging Face with the same numbers."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from mlm import bert_state, config, export
from mlm.encoder import Encoder
from mlm.errors import InputError
from mlm.runs import RunFolder
from mlm.vocabulary import Tokenizer
from tests.mlm.places import TEXT, TOPICS

os.environ["HF_HUB_OFFLINE"] = "1"
transformers = pytest.importorskip("transformers")

KINDS = ("unigram", "bpe", "char")
OPTIONS = {"preset": "bert", "layers": 3, "width": 32, "heads": 4, "feedforward_width": 56, "max_positions": 40}
N_TOKENS = 77
# Lines with what real text has and tidy text has not.
ODD = [
    "", " ", "  two  blanks ", "\tTab\tand  tabs", "trailing ", "café naïve “quotes” – dash… ½ ﬁne",
    "ＦＵＬＬ　ｗｉｄｔｈ", "e\u0301 combining", "zero\u200bwidth and\u00a0hard\u00a0blank", "漢字 🙂🙃",
    "a▁b ▁ c", "soft\u00adhyphen", "x" * 300, "1234567890 3.14 -2", "Line\u2028separator\x85next", "\x85",
    "don't 'quoted' (brackets) [square] {curly} <s>", "\x07bell\x00nul",
]  # fmt: skip


def encoder(seed: int = 0, **changes: object) -> Encoder:
    made = Encoder(config.Encoder.model_validate({**OPTIONS, **changes}), N_TOKENS, seed, torch.float32)
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():  # biases and gains too are other than they begin
            parameter.add_(torch.randn(parameter.shape, generator=source) * 0.1)
    return made.eval()


def theirs() -> "transformers.BertForMaskedLM":
    content = export.model_configuration(config.Encoder.model_validate(OPTIONS), N_TOKENS)
    return transformers.BertForMaskedLM(transformers.BertConfig(**content)).eval()


def tokens() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randint(0, N_TOKENS, (4, 33), generator=torch.Generator().manual_seed(1))
    return x, torch.arange(33) < torch.tensor([33, 20, 1, 32])[:, None]


def test_logits_are_equal_on_the_way_out() -> None:
    mine, other = encoder(), theirs()
    missing, unexpected = other.load_state_dict(bert_state.to_hugging_face(mine, range(N_TOKENS)), strict=False)
    assert not unexpected
    assert all("position_ids" in name or name.startswith("cls.predictions.decoder") for name in missing)
    other.tie_weights()
    x, visible = tokens()
    with torch.no_grad():
        ours, reference = mine(x, visible=visible), other(x, attention_mask=visible.long()).logits
    torch.testing.assert_close(ours[visible], reference[visible], rtol=1e-4, atol=1e-4)


def test_logits_are_equal_on_the_way_in_token_types_included() -> None:
    torch.manual_seed(0)
    other, mine = theirs(), encoder()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    assert other.bert.embeddings.token_type_embeddings.weight[0].abs().max() > 0.01
    bert_state.from_hugging_face(other.state_dict(), mine, range(N_TOKENS))
    x, visible = tokens()
    with torch.no_grad():
        ours, reference = mine(x, visible=visible), other(x, attention_mask=visible.long()).logits
    torch.testing.assert_close(ours[visible], reference[visible], rtol=1e-4, atol=1e-4)


def test_there_and_back_is_the_same_weights() -> None:
    mine, other = encoder(0), encoder(1)
    bert_state.from_hugging_face(bert_state.to_hugging_face(mine, range(N_TOKENS)), other, range(N_TOKENS))
    for (name, one), (_, two) in zip(mine.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(one, two), name


@pytest.mark.parametrize(
    "changes", [{"preset": "modern"}, {"norm_place": "pre"}, {"activation": "relu_squared"}, {"biases": False}]
)
def test_what_bert_cannot_compute_is_refused(changes: dict[str, object], tmp_path: Path) -> None:
    options = config.Encoder.model_validate({**OPTIONS, **changes})
    with pytest.raises(InputError, match="BertForMaskedLM has no"):
        bert_state.check_exportable(options)


def fast(tokenizer: Tokenizer, kind: str, folder: Path) -> "transformers.PreTrainedTokenizerFast":
    made = Encoder(config.Encoder.model_validate(OPTIONS), tokenizer.size, 0, torch.float32)
    export.export(made, tokenizer, kind, folder)
    return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


@pytest.fixture(scope="module")
def exported(vocabularies: dict[str, Tokenizer], tmp_path_factory: pytest.TempPathFactory) -> dict:
    return {kind: fast(vocabularies[kind], kind, tmp_path_factory.mktemp("x") / kind) for kind in KINDS}


def agree(theirs: "transformers.PreTrainedTokenizerFast", ours: Tokenizer, text: str) -> bool:
    """True for the same ids; where two orders of the same pieces score alike (a row of ====), False."""
    found, expected = theirs(text)["input_ids"], ours.encode(text)
    if found == expected:
        return True
    assert sorted(found) == sorted(expected), text
    return False


@pytest.mark.parametrize("kind", KINDS)
def test_the_exported_tokenizer_gives_the_same_ids_on_real_text(
    kind: str, vocabularies: dict[str, Tokenizer], exported: dict
) -> None:
    lines = [line for name in sorted(TOPICS)[::4] for line in TOPICS[name].split("\n")]
    tied = sum(not agree(exported[kind], vocabularies[kind], line) for line in lines)
    assert tied <= (0.01 * len(lines) if kind == "unigram" else 0)
    whole = TOPICS["class"]
    assert exported[kind](whole)["input_ids"] == vocabularies[kind].encode(whole)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_the_exported_tokenizer_gives_the_same_ids_on_odd_text(
    text: str, kind: str, vocabularies: dict[str, Tokenizer], exported: dict
) -> None:
    assert exported[kind](text)["input_ids"] == vocabularies[kind].encode(text)


@given(
    st.text(st.sampled_from(sorted(set(TEXT))) | st.characters(codec="utf-8"), max_size=40),
    st.sampled_from(KINDS),
)
def test_the_exported_tokenizer_gives_the_same_ids_on_any_text(
    vocabularies: dict[str, Tokenizer], exported: dict, text: str, kind: str
) -> None:
    assume(not any(token in text for token in config.SPECIAL_TOKENS))  # the one difference, below
    assert agree(exported[kind], vocabularies[kind], text) or kind == "unigram"


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_are_known_and_mask_as_text_is_the_mask(kind: str, exported: dict) -> None:
    """The one difference, and what Hugging Face's users expect: there, "[MASK]" in a text is the mask."""
    tokenizer = exported[kind]
    names = ("pad", "unk", "cls", "sep", "mask")
    assert [getattr(tokenizer, f"{name}_token_id") for name in names] == [0, 1, 2, 3, 4]
    ids = tokenizer("the [MASK] of")["input_ids"]
    assert ids.count(config.MASK) == 1
    assert not {config.CLS, config.SEP} & set(ids)


@pytest.mark.parametrize("kind", KINDS)
def test_the_exported_tokenizer_decodes_as_ours(
    kind: str, vocabularies: dict[str, Tokenizer], exported: dict
) -> None:
    for text in TOPICS["class"].split("\n")[:20]:
        ids = vocabularies[kind].encode(text)
        assert exported[kind].decode(ids) == vocabularies[kind].decode(ids)


def test_a_trained_run_is_loaded_offline_with_equal_logits(here: Path, bert: RunFolder, tmp_path: Path) -> None:
    mine, tokenizer = bert.encoder(), bert.tokenizer()
    export.export(mine, tokenizer, bert.config.vocabulary.kind, tmp_path / "model")
    other = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "model", local_files_only=True).eval()
    there = transformers.AutoTokenizer.from_pretrained(tmp_path / "model", local_files_only=True)
    assert type(other).__name__ == "BertForMaskedLM"
    batch = there(["The class definition is [MASK] statement."], return_tensors="pt")
    with torch.no_grad():
        reference = other(**batch).logits
        torch.testing.assert_close(mine(batch["input_ids"]), reference, rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="is not empty"):
        export.export(mine, tokenizer, "unigram", tmp_path / "model")
