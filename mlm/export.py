"""A trained `bert` encoder and its vocabulary as a Hugging Face folder, and the way back.

The names are those of `BertForMaskedLM`; its token type 0, which it adds to every position, is folded
into the positions on the way in and is zero on the way out, so logits are equal.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlm import config
from mlm.encoder import Encoder
from mlm.errors import InputError
from mlm.files import write_atomically, write_json
from mlm.vocabulary import Tokenizer

_OUTSIDE = {
    "embedding": "bert.embeddings.word_embeddings.weight",
    "position": "bert.embeddings.position_embeddings.weight",
    "embedding_norm.weight": "bert.embeddings.LayerNorm.weight",
    "embedding_norm.bias": "bert.embeddings.LayerNorm.bias",
    "head_dense.weight": "cls.predictions.transform.dense.weight",
    "head_dense.bias": "cls.predictions.transform.dense.bias",
    "head_norm.weight": "cls.predictions.transform.LayerNorm.weight",
    "head_norm.bias": "cls.predictions.transform.LayerNorm.bias",
    "head_bias": "cls.predictions.bias",
}
_INSIDE = {
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feedforward_in": "intermediate.dense",
    "feedforward_out": "output.dense",
    "feedforward_norm": "output.LayerNorm",
}
_TOKEN_TYPES = "bert.embeddings.token_type_embeddings.weight"  # noqa: S105 - a parameter's name


def check_exportable(options: config.Encoder) -> None:
    """Refuse what BertForMaskedLM cannot compute."""
    wanted = {**config.PRESETS["bert"], "dropout": options.dropout}
    other = {k: getattr(options, k) for k, v in wanted.items() if getattr(options, k) != v}
    if other:
        raise InputError(
            f"encoder: BertForMaskedLM has no {', '.join(f'{k}: {v}' for k, v in other.items())}; "
            "only `preset: bert` without changes to its shape can be exported"
        )


def to_hugging_face(encoder: Encoder) -> dict[str, Tensor]:
    """State of a BertForMaskedLM with the same logits."""
    check_exportable(encoder.options)
    own = {name: tensor.detach().cpu() for name, tensor in encoder.named_parameters()}
    width = encoder.options.width
    state = {there: own[here].clone() for here, there in _OUTSIDE.items()}
    state[_TOKEN_TYPES] = torch.zeros(2, width)
    for layer in range(encoder.options.layers):
        here, there = f"blocks.{layer}", f"bert.encoder.layer.{layer}"
        for part in ("weight", "bias"):
            projections = own[f"{here}.query_key_value.{part}"].chunk(3)
            for name, tensor in zip(("query", "key", "value"), projections, strict=True):
                state[f"{there}.attention.self.{name}.{part}"] = tensor.clone()
            for mine, theirs in _INSIDE.items():
                state[f"{there}.{theirs}.{part}"] = own[f"{here}.{mine}.{part}"].clone()
    return state


@torch.no_grad()
def from_hugging_face(state: dict[str, Tensor], encoder: Encoder) -> None:
    """Fill an encoder of the `bert` preset from a BertForMaskedLM's state."""
    check_exportable(encoder.options)
    own = dict(encoder.named_parameters())
    for here, there in _OUTSIDE.items():
        own[here].copy_(state[there])
    own["position"].add_(state[_TOKEN_TYPES][0])
    for layer in range(encoder.options.layers):
        here, there = f"blocks.{layer}", f"bert.encoder.layer.{layer}"
        for part in ("weight", "bias"):
            projections = [state[f"{there}.attention.self.{n}.{part}"] for n in ("query", "key", "value")]
            own[f"{here}.query_key_value.{part}"].copy_(torch.cat(projections))
            for mine, theirs in _INSIDE.items():
                own[f"{here}.{mine}.{part}"].copy_(state[f"{there}.{theirs}.{part}"])


def model_configuration(options: config.Encoder, n_tokens: int) -> dict[str, Any]:
    """The content of config.json."""
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
        "pad_token_id": config.PAD,
        "tie_word_embeddings": True,
    }


def export(encoder: Encoder, tokenizer: Tokenizer, kind: str, folder: Path) -> None:
    """Write a folder that `AutoModelForMaskedLM` and `AutoTokenizer` load.

    Raises:
        InputError: BertForMaskedLM cannot compute this encoder, or the folder has other content.
    """
    import safetensors.torch

    check_exportable(encoder.options)
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: is not empty; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    content = safetensors.torch.save(to_hugging_face(encoder), {"format": "pt"})
    write_atomically(folder / "model.safetensors", content)
    write_json(folder / "config.json", model_configuration(encoder.options, tokenizer.size))
    write_atomically(folder / "tokenizer.json", fast_tokenizer(tokenizer, kind))
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": encoder.options.max_positions,
            **dict(zip(names, config.SPECIAL_TOKENS, strict=True)),
        },
    )


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
