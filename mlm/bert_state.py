"""An encoder's parameters under the names of Hugging Face's BERT, and back.

The names are those of `BertForMaskedLM`, or of the larger `BertForPreTraining`. An encoder without segments
has no token types: type 0, which BERT adds to every position, is folded into the positions on the way in
and is zero on the way out, so logits are equal. The rows of the vocabulary are permuted with its tokens
(mlm.hugging_face_tokenizer).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mlm import config
from mlm.encoder import Encoder
from mlm.errors import InputError

_OUTSIDE = {
    "embedding": "bert.embeddings.word_embeddings.weight",
    "position": "bert.embeddings.position_embeddings.weight",
    "embedding_norm.weight": "bert.embeddings.LayerNorm.weight",
    "embedding_norm.bias": "bert.embeddings.LayerNorm.bias",
}
_HEAD = {
    "head_dense.weight": "cls.predictions.transform.dense.weight",
    "head_dense.bias": "cls.predictions.transform.dense.bias",
    "head_norm.weight": "cls.predictions.transform.LayerNorm.weight",
    "head_norm.bias": "cls.predictions.transform.LayerNorm.bias",
    "head_bias": "cls.predictions.bias",
}
_PAIR = {
    "pooler.weight": "bert.pooler.dense.weight",
    "pooler.bias": "bert.pooler.dense.bias",
    "relation_head.weight": "cls.seq_relationship.weight",
    "relation_head.bias": "cls.seq_relationship.bias",
}
_INSIDE = {
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feedforward_in": "intermediate.dense",
    "feedforward_out": "output.dense",
    "feedforward_norm": "output.LayerNorm",
}
_ROWS = ("embedding", "head_bias")  # one for each token
_TOKEN_TYPES = "bert.embeddings.token_type_embeddings.weight"  # noqa: S105 - a parameter's name


def check_exportable(options: config.Encoder) -> None:
    """Refuse what BertForMaskedLM cannot compute."""
    wanted = {**config.PRESETS["bert"], "dropout": options.dropout}
    wanted |= {"architecture": "transformer"}
    other = {k: getattr(options, k) for k, v in wanted.items() if getattr(options, k) != v}
    if other:
        raise InputError(
            f"encoder: BertForMaskedLM has no {', '.join(f'{k}: {v}' for k, v in other.items())}; "
            "only `preset: bert` without changes to its shape can be exported"
        )


def _named(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state under BertForMaskedLM's names of today."""
    bare = not any(name.startswith("bert.") for name in state)
    named = {}
    for name, tensor in state.items():
        today = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        named[f"bert.{today}" if bare and not today.startswith("cls.") else today] = tensor
    return named


def from_hugging_face(state: Mapping[str, Tensor], encoder: Encoder, original: Sequence[int]) -> list[str]:
    """Fill an encoder of the `bert` preset from a BERT's state.

    Args:
        original: [n_tokens] the row there of each of our tokens; rows that no token has are left behind.

    Returns:
        Names of parameters, theirs, that are wanted and not there; the encoder keeps its own.
    """
    check_exportable(encoder.options)
    state, own = _named(state), dict(encoder.named_parameters())
    rows, missing = torch.tensor(original), []
    segments = encoder.options.segments

    def put(here: str, value: Tensor) -> None:
        if own[here].shape != value.shape:
            raise RuntimeError(f"{here} is {list(own[here].shape)}, there {list(value.shape)}")
        own[here].copy_(value)

    with torch.no_grad():
        for here, there in {**_OUTSIDE, **_HEAD, **(_PAIR if segments else {})}.items():
            if there not in state and there not in _OUTSIDE.values():
                missing.append(there)
                continue
            value = state[there]
            if here.startswith("relation_head"):
                value = value.flip(0)  # there 0 is a pair that is one, here 1
            put(here, value[rows] if here in _ROWS else value)
        if segments:
            put("segment", state[_TOKEN_TYPES])
        else:
            own["position"].add_(state[_TOKEN_TYPES][0])
        for layer in range(encoder.options.layers):
            here, there = f"blocks.{layer}", f"bert.encoder.layer.{layer}"
            for part in ("weight", "bias"):
                projections = [state[f"{there}.attention.self.{n}.{part}"] for n in ("query", "key", "value")]
                put(f"{here}.query_key_value.{part}", torch.cat(projections))
                for mine, theirs in _INSIDE.items():
                    put(f"{here}.{mine}.{part}", state[f"{there}.{theirs}.{part}"])
    return missing


def to_hugging_face(encoder: Encoder, original: Sequence[int]) -> dict[str, Tensor]:
    """State of a BertForMaskedLM with the same logits, its rows where `original` says."""
    check_exportable(encoder.options)
    own = {name: tensor.detach().cpu() for name, tensor in encoder.named_parameters()}
    ours = torch.tensor(original).argsort()
    state = {
        there: own[here][ours] if here in _ROWS else own[here].clone()
        for here, there in {**_OUTSIDE, **_HEAD}.items()
    }
    none = torch.zeros(2, encoder.options.width)
    state[_TOKEN_TYPES] = own["segment"].clone() if encoder.options.segments else none
    for layer in range(encoder.options.layers):
        here, there = f"blocks.{layer}", f"bert.encoder.layer.{layer}"
        for part in ("weight", "bias"):
            projections = own[f"{here}.query_key_value.{part}"].chunk(3)
            for name, tensor in zip(("query", "key", "value"), projections, strict=True):
                state[f"{there}.attention.self.{name}.{part}"] = tensor.clone()
            for mine, theirs in _INSIDE.items():
                state[f"{there}.{theirs}.{part}"] = own[f"{here}.{mine}.{part}"].clone()
    return state
