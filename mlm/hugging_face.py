"""A Hugging Face BERT to go on from: what its folder brings to a run. Loads libraries only when one is given.

mlm.hugging_face_tokenizer reads its tokenizer, mlm.bert_state its weights' names.
"""

import functools
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlm import config, hugging_face_tokenizer, identity, yaml_file
from mlm.errors import InputError
from mlm.files import file_sha256

if TYPE_CHECKING:
    from mlm.encoder import Encoder
    from mlm.vocabulary import Tokenizer

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
SHAPE = ("vocab_size", "num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size",
         "max_position_embeddings")  # fmt: skip
REMEDY = "give `init_from` the folder of a BERT, as `save_pretrained` writes it"


def resolve(layers: Sequence[tuple[Path, str, Mapping[str, Any]]]) -> dict[str, Any]:
    """The merged content of a run's layers (file, key prefix, content), with what Hugging Face folders bring.

    `init_from` brings `encoder` and, unless one is given, `tokenizer`. What layers below the one that
    names it say of the encoder does not count; what that one and those above say must agree.

    Raises:
        InputError: a folder that cannot be read, or an encoder that its weights do not fit.
    """
    merged = yaml_file.merge(*(content for _, _, content in layers))
    for key in ("init_from", "tokenizer"):
        if isinstance(merged.get(key), str):
            merged[key] = _spelled(merged[key])
    folder = merged.get("init_from")
    if isinstance(folder, str):
        full = options(folder)
        deciding = max(i for i, (_, _, content) in enumerate(layers) if "init_from" in content)
        own: dict[str, Any] = {}
        for path, prefix, content in layers[deciding:]:
            stated = content.get("encoder")
            if isinstance(stated, Mapping):
                where = ".".join(part for part in (prefix, "encoder") if part)
                _agree(stated, full, f"{path}: {where}", folder)
                own |= stated
        merged["encoder"] = {**full, **own}
        if not isinstance(merged.get("tokenizer"), str):
            merged["tokenizer"] = folder
        _knows(folder, merged["tokenizer"])
    if isinstance(merged.get("tokenizer"), str):
        merged.pop("vocabulary", None)  # stands in its place: one spelling of the same run
        vocabulary_size(merged["tokenizer"])  # refuses a folder without one
    return merged


def _spelled(folder: str) -> str:
    """One spelling of a folder: from the study's root where it lies within."""
    path = Path(folder).absolute()
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else os.path.normpath(path)


def _knows(folder: str, tokenizer: str) -> None:
    """Refuse a tokenizer whose ids mean other tokens to the weights."""
    tokens, rows = vocabulary_size(tokenizer), _described(folder)["vocab_size"]
    if hugging_face_tokenizer.is_in(folder) and tokenizer != folder:
        digest = hugging_face_tokenizer.digest
        if digest(tokenizer) != digest(folder):
            raise InputError(
                f"tokenizer: {tokenizer} is not the one of init_from: {folder}; leave `tokenizer` out"
            )
    if tokens > rows:
        raise InputError(
            f"tokenizer: {tokenizer} has {tokens} tokens; init_from: {folder} knows {rows}; "
            "give the one that the weights were trained with"
        )


def _agree(stated: Mapping[str, Any], full: Mapping[str, Any], where: str, folder: str) -> None:
    sizes = config.SIZES.get(str(stated.get("size")), {})
    for key, value in {**sizes, **stated}.items():
        if key in full and key != "dropout" and value != full[key]:
            raise InputError(
                f"{where}.{key}: is {value!r}; init_from: {folder} has {full[key]!r}; leave it out"
            )


def options(folder: str) -> dict[str, Any]:
    """The `encoder` section that a BERT's config.json describes; its one rate of dropout is the hidden states'.

    Raises:
        InputError: the folder holds no BERT, or one that the `bert` preset does not compute.
    """
    found = _described(folder)
    needed = {
        "model_type": "bert", "hidden_act": "gelu", "layer_norm_eps": 1e-12,
        "position_embedding_type": "absolute", "is_decoder": False, "tie_word_embeddings": True,
    }  # fmt: skip
    for key, value in needed.items():
        if found.get(key, value) != value:
            raise InputError(
                f"init_from: {folder}/config.json: {key} is {found[key]!r}; only {value!r} can be gone on "
                f"from; {REMEDY}"
            )
    _check_weights(_weights(folder), found)
    return {
        "preset": "bert",
        "architecture": "transformer",
        **config.PRESETS["bert"],
        "layers": found["num_hidden_layers"],
        "width": found["hidden_size"],
        "heads": found["num_attention_heads"],
        "feedforward_width": found["intermediate_size"],
        "max_positions": found["max_position_embeddings"],
        "dropout": float(found.get("hidden_dropout_prob", 0.1)),
    }


def _check_weights(path: Path, described: Mapping[str, Any]) -> None:
    """Refuse weights of another shape than config.json describes, by what their header says of them."""
    if path.suffix != ".safetensors":
        return  # told only by loading all of it, when the run begins
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as stored:
            shapes = {key.removeprefix("bert."): stored.get_slice(key).get_shape() for key in stored.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"init_from: {path}: cannot be read ({error}); {REMEDY}") from None
    layers = {int(key.split(".")[2]) for key in shapes if key.startswith("encoder.layer.")}
    width, inner = described["hidden_size"], described["intermediate_size"]
    wanted = {
        "embeddings.word_embeddings.weight": [described["vocab_size"], width],
        "embeddings.position_embeddings.weight": [described["max_position_embeddings"], width],
        "encoder.layer.0.intermediate.dense.weight": [inner, width],
    }
    other = [key for key, shape in wanted.items() if list(shapes.get(key, ())) != shape]
    if layers != set(range(described["num_hidden_layers"])):
        other.append(f"{len(layers)} layers")
    if other:
        raise InputError(
            f"init_from: {path}: {', '.join(other)} differ from what config.json describes; {REMEDY}"
        )


def _described(folder: str) -> dict[str, Any]:
    path = Path(folder, "config.json")
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"init_from: {path}: cannot be read ({error}); {REMEDY}") from None
    lacking = SHAPE if not isinstance(found, dict) else [k for k in SHAPE if not isinstance(found.get(k), int)]
    if lacking:
        told = f"it does not say {', '.join(lacking)}"
        raise InputError(f"init_from: {path}: not a BERT's ({told}); {REMEDY}")
    return found


def vocabulary_size(folder: str) -> int:
    """Tokens of the tokenizer in a folder. Read once for each content; transformers takes two seconds."""
    return _vocabulary_size(folder, hugging_face_tokenizer.digest(folder))


@functools.cache
def _vocabulary_size(folder: str, digest: str) -> int:
    return hugging_face_tokenizer.size(folder)


def weights_digest(folder: str) -> str:
    """What decides the weights that a run begins with, beside its own configuration and vocabulary."""
    path = _weights(folder)
    return identity.digest(
        [_sha256(path, path.stat().st_mtime_ns), identity.code_hash((__name__, "mlm.bert_state"))]
    )


@functools.cache
def _sha256(path: Path, changed: int) -> str:
    return file_sha256(path)


def _weights(folder: str) -> Path:
    for path in (Path(folder, name) for name in WEIGHTS):
        if path.is_file():
            return path
    raise InputError(f"init_from: {folder}: has neither {' nor '.join(WEIGHTS)}; {REMEDY}")


def load(folder: Path, encoder: "Encoder", tokenizer: "Tokenizer") -> None:
    """Fill an encoder of the `bert` preset from a folder; warns of parts that are not there.

    Raises:
        InputError: the weights are damaged, or do not fit the encoder or the vocabulary.
    """
    from mlm.bert_state import from_hugging_face

    path = _weights(str(folder))
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            import torch

            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format fails in its own way
        raise InputError(
            f"init_from: {path}: cannot be read ({str(error).splitlines()[0]}); {REMEDY}"
        ) from None
    try:
        missing = from_hugging_face(state, encoder, tokenizer.original)
    except (KeyError, RuntimeError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"init_from: {path}: does not fit encoder and vocabulary ({reason}); {REMEDY}"
        ) from None
    if missing:
        warnings.warn(f"{path} has no {', '.join(missing)}; drawn by the run's seed instead", stacklevel=2)
