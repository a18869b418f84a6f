"""A trained `bert` encoder and its vocabulary as a Hugging Face folder that computes the same logits.

A run that brought its own tokenizer gets that one's files back, and its weights in their order.
"""

import json
from pathlib import Path
from typing import Any

from mlm import config
from mlm.bert_state import check_exportable, to_hugging_face
from mlm.encoder import Encoder
from mlm.errors import InputError
from mlm.files import write_atomically, write_json
from mlm.hugging_face_tokenizer import SPECIAL, Processor
from mlm.schedules import Pattern
from mlm.vocabulary import Tokenizer


def model_configuration(options: config.Encoder, n_tokens: int, pad: int = config.PAD) -> dict[str, Any]:
    """The content of config.json; `pad` is the padding's id there."""
    return {
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        "vocab_size": n_tokens,
        "hidden_size": options.width,
        "num_hidden_layers": options.layers,
        "num_attention_heads": options.heads,
        "intermediate_size": options.feedforward_width,
        "max_position_embeddings": options.max_positions,
        "hidden_act": "gelu",
        "hidden_dropout_prob": options.dropout,
        "attention_probs_dropout_prob": options.dropout,
        "layer_norm_eps": 1e-12,
        "type_vocab_size": 2,
        "pad_token_id": pad,
        "tie_word_embeddings": True,
    }


def export(encoder: Encoder, tokenizer: Tokenizer, kind: str, folder: Path) -> str:
    """Write a folder that `AutoModelForMaskedLM` and `AutoTokenizer` load.

    Args:
        kind: of a vocabulary that was trained here, the model's.

    Returns:
        What was written, and what was left out, in a line.

    Raises:
        InputError: BertForMaskedLM cannot compute this encoder, or the folder has other content.
    """
    import safetensors.torch

    check_exportable(encoder.options)
    if encoder.pattern != Pattern():
        raise InputError("attention: BertForMaskedLM has no such pattern; its positions attend to all others")
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: is not empty; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    content = safetensors.torch.save(to_hugging_face(encoder, tokenizer.original), {"format": "pt"})
    write_atomically(folder / "model.safetensors", content)
    configuration = model_configuration(encoder.options, tokenizer.size, tokenizer.original[config.PAD])
    write_json(folder / "config.json", configuration)
    if isinstance(tokenizer.processor, Processor):
        files = tokenizer.processor.files
    else:
        files = _tokenizer_files(tokenizer, kind, encoder.options.max_positions)
    for name, text in files.items():
        write_atomically(folder / name, text)
    left = "; without the head that judges sentence pairs" if encoder.options.segments else ""
    return f"{folder}: load it with AutoModelForMaskedLM and AutoTokenizer{left}"


def _tokenizer_files(tokenizer: Tokenizer, kind: str, max_positions: int) -> dict[str, str]:
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_positions,
        **dict(zip(SPECIAL, config.SPECIAL_TOKENS, strict=True)),
    }
    return {
        "tokenizer.json": fast_tokenizer(tokenizer, kind),
        "tokenizer_config.json": json.dumps(settings, indent=2) + "\n",
    }


def fast_tokenizer(tokenizer: Tokenizer, kind: str) -> str:
    """The vocabulary as a tokenizer.json that gives the same ids, without added [CLS] or [SEP]."""
    from sentencepiece import sentencepiece_model_pb2
    from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as FastTokenizer

    proto: Any = sentencepiece_model_pb2
    model = proto.ModelProto.FromString(tokenizer.model)
    scores = [(piece.piece, piece.score) for piece in model.pieces]
    if kind == "bpe":
        ids = {piece: i for i, (piece, _) in enumerate(scores)}
        merges = [
            (score, left, right)
            for piece, score in scores[config.N_SPECIAL :]
            for cut in range(1, len(piece))
            if (left := piece[:cut]) in ids and (right := piece[cut:]) in ids
        ]
        merges.sort(key=lambda merge: -merge[0])  # the earlier SentencePiece learnt it, the higher
        bpe = models.BPE(ids, [(left, right) for _, left, right in merges], unk_token="[UNK]", fuse_unk=True)  # noqa: S106
        fast = FastTokenizer(bpe)
    else:  # characters are a unigram model whose pieces leave no choice
        fast = FastTokenizer(models.Unigram(scores, unk_id=config.UNK, byte_fallback=False))
    if kind == "char":
        fast.normalizer = normalizers.Replace(" ", "▁")
        fast.decoder = decoders.Replace("▁", " ")
    else:
        fast.normalizer = normalizers.Sequence(
            [
                normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap),
                normalizers.Replace(Regex(r"\A +| +\z"), ""),  # Strip would take more than blanks
                normalizers.Replace(Regex(" {2,}"), " "),
            ]
        )
        fast.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
        fast.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    fast.add_special_tokens([AddedToken(token, normalized=False) for token in config.SPECIAL_TOKENS])
    return json.dumps(json.loads(fast.to_str()), ensure_ascii=False)
