"""A BERT that was made elsewhere: the same words, the same logits, here and there again."""

import json
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from mlm import bert_state, config, corpus, export, hugging_face, hugging_face_tokenizer, shards, yaml_file
from mlm.encoder import Encoder
from mlm.errors import Damaged, InputError
from mlm.fill import encode_prompt
from mlm.masking import corrupt
from mlm.model import begin, build
from mlm.randomness import Purpose, generator, uniform
from mlm.schedules import Pattern
from mlm.train import Trainer
from mlm.vocabulary import Tokenizer
from tests.mlm.places import TEXT, TOPICS, environment

transformers = pytest.importorskip("transformers")
import tokenizers  # noqa: E402
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers  # noqa: E402

# BERT's odd places: the padding first, the others behind tokens that nobody uses.
FIRST = ["[PAD]", *(f"[unused{i}]" for i in range(9)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LINES = [line for line in TEXT.split("\n") if line.strip()][:400]
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 56,
         "max_position_embeddings": 60}  # fmt: skip
words = st.text(st.sampled_from(sorted(set(TEXT))) | st.characters(codec="utf-8"), max_size=30)


def wordpiece(folder: Path, lines: Sequence[str] = LINES, **settings: Any) -> Path:
    """A WordPiece vocabulary of a few lines, saved as transformers saves one."""
    made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=settings.get("do_lower_case", True))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.train_from_iterator(
        lines, trainers.WordPieceTrainer(vocab_size=500, special_tokens=FIRST, show_progress=False)
    )
    transformers.BertTokenizer(vocab=made.get_vocab(), **settings).save_pretrained(folder)
    return folder


def model(folder: Path, kind: str = "BertForMaskedLM", rows: int = 500, **changes: Any) -> Any:
    """A small BERT whose every parameter differs from how it begins, saved beside its tokenizer."""
    torch.manual_seed(0)
    options = transformers.BertConfig(**{"vocab_size": rows, **SHAPE, **changes})
    made = getattr(transformers, kind)(options).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    made.save_pretrained(folder)
    return made


def prepare(folder: Path, path: Path) -> Tokenizer:
    hugging_face_tokenizer.prepare(str(folder), path)
    return Tokenizer.read(path)


def loaded(folder: Path, tokenizer: Tokenizer, **changes: Any) -> Encoder:
    options = config.Encoder.model_validate(hugging_face.options(str(folder)) | changes)
    encoder = Encoder(options, tokenizer.size, 0, torch.float32)
    hugging_face.load(folder, encoder, tokenizer)
    return encoder.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers for all token types, with its tokenizer."""
    place = wordpiece(tmp_path_factory.mktemp("bert"))
    model(place, "BertForPreTraining")
    return place


@pytest.fixture(scope="module")
def tokenizer(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return prepare(folder, tmp_path_factory.mktemp("vocabulary") / "vocabulary.model")


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


def rows(tokenizer: Tokenizer) -> torch.Tensor:
    return torch.randint(0, tokenizer.size, (4, 50), generator=torch.Generator().manual_seed(1))


def there(tokenizer: Tokenizer, ids: torch.Tensor) -> torch.Tensor:
    """The same tokens under the ids of their folder."""
    return torch.tensor(tokenizer.original)[ids]


def there_columns(logits: torch.Tensor, tokenizer: Tokenizer) -> torch.Tensor:
    return logits[..., tokenizer.original]


def test_special_tokens_come_first_and_all_others_in_their_order(tokenizer: Tokenizer, theirs: Any) -> None:
    assert tokenizer.pieces[: config.N_SPECIAL] == list(config.SPECIAL_TOKENS)
    assert tokenizer.original[: config.N_SPECIAL] == [0, 10, 11, 12, 13]
    assert sorted(tokenizer.original) == list(range(len(theirs)))
    assert tokenizer.original[config.N_SPECIAL :] == sorted(tokenizer.original[config.N_SPECIAL :])
    assert tokenizer.size == len(theirs)


@given(words)
def test_a_text_gives_the_tokens_that_transformers_gives(tokenizer: Tokenizer, theirs: Any, text: str) -> None:
    assume(not any(token in text for token in config.SPECIAL_TOKENS))  # the one difference, below
    expected = theirs(text, add_special_tokens=False)["input_ids"]
    assert [tokenizer.original[i] for i in tokenizer.encode(text)] == expected


def test_prose_gives_the_same_tokens_and_comes_back(tokenizer: Tokenizer, theirs: Any) -> None:
    for line in TOPICS["class"].split("\n"):
        expected = theirs(line, add_special_tokens=False)["input_ids"]
        assert [tokenizer.original[i] for i in tokenizer.encode(line)] == expected
        assert tokenizer.decode(tokenizer.encode(line)) == theirs.decode(expected, skip_special_tokens=True)
    lines = TOPICS["class"].split("\n")
    assert tokenizer.encode(TOPICS["class"]) == [i for line in lines for i in tokenizer.encode(line)]


def test_the_text_of_a_special_token_is_no_special_token(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a [MASK] and [SEP] or [PAD] with [CLS]")
    assert not {config.PAD, config.CLS, config.SEP, config.MASK} & set(ids)
    assert encode_prompt(tokenizer, "the [MASK], and").count(config.MASK) == 1


def test_a_piece_of_the_vocabulary_that_spells_a_special_token_is_unknown(tmp_path: Path) -> None:
    """Split at blanks alone, "[MASK]" in a text would be the vocabulary's own piece."""
    made = tokenizers.Tokenizer(
        models.WordPiece({t: i for i, t in enumerate([*FIRST, "cat"])}, unk_token="[UNK]")
    )
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = dict(zip(hugging_face_tokenizer.SPECIAL, config.SPECIAL_TOKENS, strict=True))
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, **names).save_pretrained(tmp_path / "t")
    ids = prepare(tmp_path / "t", tmp_path / "v").encode("cat [MASK] cat")
    assert ids[1] == config.UNK
    assert ids[0] == ids[2] >= config.N_SPECIAL


def test_words_begin_where_transformers_sees_words(tokenizer: Tokenizer, theirs: Any) -> None:
    for line in LINES[:100]:
        encoded = theirs(line, add_special_tokens=False)
        words_of = encoded.word_ids()
        expected = [number == 0 or words_of[number - 1] != word for number, word in enumerate(words_of)]
        assert [tokenizer.begins_word[i] for i in tokenizer.encode(line)] == expected
    assert not any(tokenizer.begins_word[: config.N_SPECIAL])


def test_words_one_by_one_are_the_words_of_a_line(tokenizer: Tokenizer) -> None:
    chosen = TOPICS["class"].split()
    assert [i for ids in tokenizer.encode_words(chosen) for i in ids] == tokenizer.encode(" ".join(chosen))


@pytest.mark.parametrize("unit", ["word", "span"])
def test_whole_words_are_selected_whole(tokenizer: Tokenizer, unit: str) -> None:
    ids = tokenizer.encode(TEXT[:200_000])
    tokens = torch.tensor(ids[: len(ids) // 64 * 64]).view(-1, 64)
    begins = torch.tensor(tokenizer.begins_word)
    masking = config.Masking.model_validate({"rate": 0.15, "unit": unit})
    draws = uniform(generator(0, Purpose.MASKING))
    selected = corrupt(tokens, masking, draws, n_tokens=tokenizer.size, begins_word=begins).selected
    goes_on = ~begins[tokens] & (tokens >= config.N_SPECIAL)
    before_is_word = torch.nn.functional.pad(tokens >= config.N_SPECIAL, (1, 0))[:, :-1]
    inside = goes_on & before_is_word
    inside[:, 0] = False
    assert inside.sum() > 1000
    whole = torch.nn.functional.pad(selected, (1, 0))[:, :-1]
    assert torch.equal(selected[inside], whole[inside])
    assert selected.float().mean() == pytest.approx(0.15, abs=0.01)


@pytest.mark.parametrize("segments", [False, True])
def test_logits_are_equal_on_the_way_in(folder: Path, tokenizer: Tokenizer, segments: bool) -> None:
    encoder = loaded(folder, tokenizer, segments=segments)
    other = transformers.BertForMaskedLM.from_pretrained(folder, local_files_only=True).eval()
    ids = rows(tokenizer)
    with torch.no_grad():
        reference = other(there(tokenizer, ids)).logits
        torch.testing.assert_close(encoder(ids), there_columns(reference, tokenizer), rtol=1e-5, atol=1e-5)


def test_segments_and_the_judgement_of_a_pair_come_along(folder: Path, tokenizer: Tokenizer) -> None:
    encoder = loaded(folder, tokenizer, segments=True)
    other = transformers.BertForPreTraining.from_pretrained(folder, local_files_only=True).eval()
    ids, segments = rows(tokenizer), (torch.arange(50) > 20).long().expand(4, -1)
    with torch.no_grad():
        reference = other(there(tokenizer, ids), token_type_ids=segments)
        states = encoder.hidden(ids, segments=segments)
        expected = there_columns(reference.prediction_logits, tokenizer)
        torch.testing.assert_close(encoder.logits(states[-1]), expected, rtol=1e-5, atol=1e-5)
        # There 0 says that B follows A; here 1 does.
        judged = reference.seq_relationship_logits.flip(-1)
        torch.testing.assert_close(encoder.relation(states[-1][:, 0]), judged, rtol=1e-5, atol=1e-5)


def test_training_goes_on_from_it_and_out_again(
    folder: Path, prepared: Path, theirs: Any, tmp_path: Path
) -> None:
    """The corpus in WordPiece, a few steps over whole words from the weights of the folder, exported."""
    tokenizer = prepare(folder, tmp_path / "vocabulary.model")
    shards.write(prepared, tmp_path / "vocabulary.model", tmp_path / "shards")
    data = shards.read(tmp_path / "shards", tmp_path / "vocabulary.model")
    text = next(text for _, text in corpus.read(prepared, "train"))
    assert data["train"].tokens[: data["train"].offsets[1]].tolist()[:50] == tokenizer.encode(text)[:50]
    content = resolve({"init_from": str(folder), "sequence_length": 32, "budget_tokens": 8 * 32 * 3,
                       "log_every_tokens": 256, "masking": {"unit": "word"}})  # fmt: skip
    run = yaml_file.validated(config.Run, content, "here")
    encoder = build(run, tokenizer.size, torch.float32)
    begin(encoder, run, tokenizer, hugging_face.weights_digest(run.init_from))
    trainer = Trainer(run, data, tokenizer.begins_word, encoder)
    ids = rows(tokenizer)
    with torch.no_grad():
        before = trainer.encoder(ids)
        torch.testing.assert_close(before, loaded(folder, tokenizer)(ids), rtol=0, atol=0)
    for number in range(run.steps):
        trainer.step(number)
    export.export(trainer.encoder, tokenizer, "unigram", tmp_path / "out")
    other = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "out", local_files_only=True).eval()
    with torch.no_grad():
        after = trainer.encoder(ids)
        assert (after - before).abs().max() > 0.01
        reference = there_columns(other(there(tokenizer, ids)).logits, tokenizer)
        torch.testing.assert_close(after, reference, rtol=1e-5, atol=1e-5)


def test_an_attention_that_bert_has_not_is_not_exported(
    folder: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    encoder = loaded(folder, tokenizer)
    encoder.pattern = Pattern(window=4)
    with pytest.raises(InputError, match="BertForMaskedLM has no such pattern"):
        export.export(encoder, tokenizer, "unigram", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_needs_no_folder_loads_no_library_and_a_folder_is_read_in_silence(folder: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from mlm import hugging_face
hugging_face.resolve([(Path("a"), "", {{"batch_size": 8}})])
print(not {{"torch", "transformers", "tokenizers"}} & sys.modules.keys())
hugging_face.resolve([(Path("a"), "", {{"init_from": {str(folder)!r}}})])
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.parametrize("segments", [False, True])
def test_out_again_untrained_is_the_same_model_and_tokenizer(
    folder: Path, tokenizer: Tokenizer, theirs: Any, tmp_path: Path, segments: bool
) -> None:
    told = export.export(loaded(folder, tokenizer, segments=segments), tokenizer, "unigram", tmp_path / "out")
    assert ("without the head that judges sentence pairs" in told) == segments
    before, after = (
        transformers.AutoModelForMaskedLM.from_pretrained(place, local_files_only=True).eval()
        for place in (folder, tmp_path / "out")
    )
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "out", local_files_only=True)
    assert type(again) is type(theirs)
    assert again.get_vocab() == theirs.get_vocab()
    batch = theirs("The class [MASK] is a STATEMENT, caf\u00e9.", "And B.", return_tensors="pt")
    assert (
        again("The class [MASK] is a STATEMENT, caf\u00e9.", "And B.", return_tensors="pt").data.keys()
        == batch.keys()
    )
    for line in LINES[:100]:
        assert again(line)["input_ids"] == theirs(line)["input_ids"]
    if not segments:
        batch["token_type_ids"].zero_()
    with torch.no_grad():
        torch.testing.assert_close(after(**batch).logits, before(**batch).logits, rtol=1e-5, atol=1e-5)
    assert after.config.pad_token_id == theirs.pad_token_id
    twice = prepare(tmp_path / "out", tmp_path / "again.model")
    assert (twice.pieces, twice.original) == (tokenizer.pieces, tokenizer.original)


def test_vocab_txt_alone_is_a_tokenizer(tokenizer: Tokenizer, theirs: Any, tmp_path: Path) -> None:
    ids = theirs.get_vocab()
    for name, config_file in (("bare", None), ("described", '{"model_type": "bert"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vocab.txt").write_text("\n".join(sorted(ids, key=ids.get)) + "\n", encoding="utf-8")
        if config_file:
            (tmp_path / name / "config.json").write_text(config_file)
        old = prepare(tmp_path / name, tmp_path / f"{name}.model")
        assert (old.pieces, old.original) == (tokenizer.pieces, tokenizer.original)
        assert old.encode(TEXT[:20_000]) == tokenizer.encode(TEXT[:20_000])
        assert "vocab.txt" in old.processor.files


def test_transformers_own_settings_decide_not_the_file_that_they_override(tmp_path: Path) -> None:
    """BertTokenizer takes lower case from tokenizer_config.json, whatever tokenizer.json says."""
    cased = prepare(wordpiece(tmp_path / "cased", do_lower_case=False), tmp_path / "v")
    assert cased.encode("class") != cased.encode("CLASS")


def roberta(folder: Path) -> Path:
    """A byte-level vocabulary with RoBERTa's names."""
    first = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    made = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        LINES,
        trainers.BpeTrainer(vocab_size=500, special_tokens=first, show_progress=False,
                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    names = dict(zip(hugging_face_tokenizer.SPECIAL, ["<pad>", "<unk>", "<s>", "</s>", "<mask>"], strict=True))
    transformers.PreTrainedTokenizerFast(tokenizer_object=made, **names).save_pretrained(folder)
    return folder


def test_other_tokenizers_tell_words_in_their_own_way(
    vocabularies: dict[str, Tokenizer], tmp_path: Path
) -> None:
    made = Encoder(config.Encoder.model_validate({"preset": "bert", "layers": 1, "width": 16, "heads": 2}),
                   vocabularies["unigram"].size, 0, torch.float32)  # fmt: skip
    export.export(made, vocabularies["unigram"], "unigram", tmp_path / "metaspace")
    metaspace = prepare(tmp_path / "metaspace", tmp_path / "metaspace.model")
    assert metaspace.pieces == vocabularies["unigram"].pieces
    assert metaspace.begins_word == vocabularies["unigram"].begins_word
    bytewise = prepare(roberta(tmp_path / "bytes"), tmp_path / "bytes.model")
    assert bytewise.original[: config.N_SPECIAL] == [1, 3, 0, 2, 4]
    for tokenizer in (metaspace, bytewise):
        chosen = ["The", "class", "definition", "is", "a", "statement.", "Two", "lines"]
        whole = tokenizer.encode("The class definition is a statement.\nTwo lines")
        assert whole == [i for ids in tokenizer.encode_words(chosen) for i in ids]
        assert sum(tokenizer.begins_word[i] for i in whole) == len(chosen)
        assert tokenizer.decode(tokenizer.encode("Two lines")).strip() == "Two lines"
        ids = encode_prompt(tokenizer, "the [MASK], and [MASK] [MASK]")
        at = ids.index(config.MASK)
        assert ids[:at] == tokenizer.encode("the") and tokenizer.pieces[ids[at + 1]] == ","
        assert ids[at + 2 :] == [*tokenizer.encode("and"), config.MASK, config.MASK]


def test_a_damaged_vocabulary_is_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    for number, content in enumerate(
        (tokenizer.model[:1000], b"{}", tokenizer.model.replace(b"WordPiece", b"Mosaic"))
    ):
        path = tmp_path / f"{number}.model"
        path.write_bytes(content)
        with pytest.raises(Damaged, match=rf"{number}\.model.*delete it and run again"):
            Tokenizer.read(path)


def _of_their_time(found: re.Match[str]) -> str:
    return found[1] + {"weight": "gamma", "bias": "beta"}[found[2]]


@pytest.mark.parametrize("kind", ["BertForMaskedLM", "BertForPreTraining", "BertModel"])
@pytest.mark.parametrize("pickled", [False, True])
def test_every_kind_of_checkpoint(
    folder: Path, tokenizer: Tokenizer, tmp_path: Path, kind: str, pickled: bool
) -> None:
    other = model(tmp_path, kind)
    if pickled:  # as the first ones were stored, in names of their time
        (tmp_path / "model.safetensors").unlink()
        old = {}
        for name, tensor in other.state_dict().items():
            old[re.sub(r"(LayerNorm\.)(weight|bias)", _of_their_time, name)] = tensor
        torch.save(old, tmp_path / "pytorch_model.bin")
    ids = rows(tokenizer)
    if kind == "BertModel":
        with pytest.warns(UserWarning, match=r"has no cls\.predictions.*drawn by the run's seed"):
            encoder = loaded(tmp_path, tokenizer)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            encoder = loaded(tmp_path, tokenizer)
    with torch.no_grad():
        base = getattr(other, "bert", other)
        states = base(there(tokenizer, ids), output_hidden_states=True).hidden_states
        for mine, reference in zip(encoder.hidden(ids), states, strict=True):
            torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-5)


def test_rows_that_no_token_has_are_left_behind(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Vocabularies are padded to round numbers."""
    other = model(tmp_path, rows=tokenizer.size + 12)
    ids = rows(tokenizer)
    with torch.no_grad():
        reference = there_columns(other(there(tokenizer, ids)).logits, tokenizer)
        torch.testing.assert_close(loaded(tmp_path, tokenizer)(ids), reference, rtol=1e-5, atol=1e-5)


LOW: dict[str, Any] = {"encoder": {"preset": "modern", "size": "tiny", "query_key_norm": True}, "batch_size": 8}


def resolve(*contents: dict[str, Any]) -> dict[str, Any]:
    names = ("scale.yaml", "trial.yaml", "--set")
    return hugging_face.resolve(
        [(Path(name), "", content) for name, content in zip(names, (LOW, *contents, {}), strict=False)]
    )


def test_a_run_gets_encoder_and_tokenizer_from_the_folder(folder: Path) -> None:
    merged = resolve({"init_from": str(folder), "sequence_length": 32})
    run = yaml_file.validated(config.Run, merged, "here")
    assert (run.tokenizer, run.batch_size, run.sequence_length) == (str(folder), 8, 32)
    assert run.encoder == config.Encoder.model_validate(
        {"preset": "bert", "layers": 2, "width": 32, "heads": 4, "feedforward_width": 56, "max_positions": 60}
    )
    own = resolve({"init_from": str(folder)}, {"encoder": {"dropout": 0.0, "segments": True, "width": 32}})
    assert (own["encoder"]["dropout"], own["encoder"]["segments"]) == (0.0, True)
    assert resolve({"sequence_length": 32}) == {**LOW, "sequence_length": 32}
    assert resolve({"init_from": str(folder)}, {"init_from": None})["encoder"] == LOW["encoder"]
    pairs = yaml_file.validated(config.Run, {**merged, "objective": "nsp"}, "here")
    assert pairs.encoder.segments


def test_a_tokenizer_by_itself_stands_in_the_place_of_a_vocabulary(folder: Path) -> None:
    merged = resolve({"tokenizer": str(folder), "vocabulary": {"size": 300}})
    assert merged == {**LOW, "tokenizer": str(folder)}
    assert hugging_face.vocabulary_size(str(folder)) == 500


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"encoder": {"layers": 3}}, r"trial\.yaml: encoder\.layers: is 3; .* has 2; leave it out"),
        ({"encoder": {"preset": "modern"}}, r"trial\.yaml: encoder\.preset: is 'modern'; .* has 'bert'"),
        ({"encoder": {"size": "mini"}}, r"trial\.yaml: encoder\.layers: is 4; .* has 2"),
        ({"encoder": {"positions": "rotary"}}, r"encoder\.positions: is 'rotary'"),
        (
            {"encoder": {"embedding_norm": False}},
            r"encoder\.embedding_norm: is False; .* has True; leave it out",
        ),
        ({"encoder": {"architecture": "my.own:Encoder"}}, r"encoder\.architecture: is 'my\.own:Encoder'"),
        ({"tokenizer": "nowhere"}, r"tokenizer: nowhere: has none of tokenizer"),
    ],
)
def test_what_contradicts_the_folder_is_refused(folder: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve({"init_from": str(folder), **content})


def test_a_tokenizer_beside_its_weights_is_the_one_they_know(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "same")
    other = wordpiece(tmp_path / "cased", do_lower_case=False)
    given = {"init_from": str(folder), "tokenizer": str(tmp_path / "same")}
    assert resolve(given)["tokenizer"] == str(tmp_path / "same")
    with pytest.raises(InputError, match=r"cased is not the one of init_from: .*leave `tokenizer` out"):
        resolve({"init_from": str(folder), "tokenizer": str(other)})
    (tmp_path / "weights").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(folder / name, tmp_path / "weights")
    assert resolve({"init_from": str(tmp_path / "weights"), "tokenizer": str(other)})["tokenizer"] == str(other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "roberta"}, "model_type is 'roberta'; only 'bert'"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps is 1e-05"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"hidden_size": None}, "does not say hidden_size"),
        ({"vocab_size": 100}, "word_embeddings.weight differ from what config.json describes"),
    ],
)
def test_a_model_that_cannot_be_gone_on_from_is_refused(
    folder: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    shutil.copytree(folder, tmp_path / "bert")
    path = tmp_path / "bert" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError, match=message) as caught:
        resolve({"init_from": str(tmp_path / "bert")})
    assert "init_from" in str(caught.value)


@pytest.mark.parametrize("harm", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_or_damaged_file_is_named(
    folder: Path, tokenizer: Tokenizer, tmp_path: Path, harm: str
) -> None:
    for damage in ("missing", "cut"):
        place = tmp_path / damage
        shutil.copytree(folder, place)
        raw = (place / harm).read_bytes()
        (place / harm).unlink()
        if damage == "cut":
            (place / harm).write_bytes(raw[: len(raw) // 2])
        with pytest.raises(
            InputError, match=rf"(init_from|tokenizer): {place}.*(give `init_from`|give `tokenizer`)"
        ):
            resolve({"init_from": str(place)})
            hugging_face.weights_digest(str(place))
            loaded(place, tokenizer)


def test_weights_that_do_not_fit_are_refused(folder: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "bert")
    model(tmp_path / "small", "BertForMaskedLM", hidden_size=16)
    shutil.copy(tmp_path / "small" / "model.safetensors", tmp_path / "bert")
    with pytest.raises(InputError, match=r"differ from what config\.json describes"):
        loaded(tmp_path / "bert", tokenizer)


def test_a_tokenizer_without_a_mask_is_refused(tmp_path: Path) -> None:
    made = tokenizers.Tokenizer(models.WordPiece({t: i for i, t in enumerate(FIRST)}, unk_token="[UNK]"))
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]")
    fast.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"tokenizer: .* has no cls_token, sep_token, mask_token"):
        hugging_face.vocabulary_size(str(tmp_path))


def test_digests_tell_content_not_place(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    both = hugging_face_tokenizer.digest, hugging_face.weights_digest
    for digest in both:
        assert digest(str(folder)) == digest(str(tmp_path / "copy"))
    before = [digest(str(folder)) for digest in both]
    model(tmp_path / "copy", "BertForPreTraining", initializer_range=0.5)
    settings = tmp_path / "copy" / "tokenizer_config.json"
    settings.write_text(settings.read_text().replace("true", "false"))
    assert not set(before) & {digest(str(tmp_path / "copy")) for digest in both}


def test_names_there_and_back_are_the_same_weights(folder: Path, tokenizer: Tokenizer) -> None:
    encoder = loaded(folder, tokenizer, segments=True)
    state = bert_state.to_hugging_face(encoder, tokenizer.original)
    again = Encoder(encoder.options, tokenizer.size, 1, torch.float32)
    missing = bert_state.from_hugging_face(state, again, tokenizer.original)
    assert all(name.startswith(("bert.pooler", "cls.seq_relationship")) for name in missing)
    for (name, one), (_, two) in zip(encoder.named_parameters(), again.named_parameters(), strict=True):
        if not name.startswith(("pooler", "relation_head")):
            assert torch.equal(one, two), name


def test_a_tokenizer_that_leaves_out_merges_at_random_is_refused(folder: Path, tmp_path: Path) -> None:
    content = hugging_face_tokenizer.read(str(folder))
    described = json.loads(content["files"]["tokenizer.json"])
    described["model"]["dropout"] = 0.1
    content["files"]["tokenizer.json"] = json.dumps(described)
    with pytest.raises(InputError, match=r"tokenizer: here: leaves out merges at random \(`dropout` 0\.1"):
        hugging_face_tokenizer.Processor(json.dumps(content).encode(), "here")
