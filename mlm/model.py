"""A run's encoder before its first step."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mlm import config, plugins, schedules
from mlm.encoder import Encoder
from mlm.errors import InputError

if TYPE_CHECKING:
    from mlm.vocabulary import Tokenizer


def build(run: config.Run, n_tokens: int, dtype: torch.dtype) -> Encoder:
    """The encoder that a run begins with, attending as it does at its end.

    Args:
        n_tokens: size of the vocabulary.
        dtype: type of the activations; weights stay float32.
    """
    architecture: type[Encoder] = Encoder
    if run.encoder.architecture != "transformer":
        architecture = plugins.load(run.encoder.architecture, "encoder", "encoder.architecture")
    encoder = architecture(run.encoder, n_tokens, run.seed, dtype)
    encoder.pattern = schedules.pattern(run, 1.0)
    return encoder


def begin(encoder: Encoder, run: config.Run, tokenizer: "Tokenizer", stated: str | None) -> None:
    """Fill a built encoder with the weights that a run starts from, if it goes on from others.

    Args:
        stated: digest of the folder that `init_from` names, as it was planned.

    Raises:
        InputError: the folder's weights are others by now.
    """
    if run.init_from is None:
        return
    from mlm import hugging_face

    if hugging_face.weights_digest(run.init_from) != stated:
        raise InputError(
            f"init_from: {run.init_from}: its weights changed since the run was planned; plan it again"
        )
    hugging_face.load(Path(run.init_from), encoder, tokenizer)
