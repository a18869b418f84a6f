"""A run's encoder before its first step."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mlm import config, plugins, schedules
from mlm.encoder import Encoder

if TYPE_CHECKING:
    from mlm.vocabulary import Tokenizer


def build(run: config.Run, tokenizer: "Tokenizer", dtype: torch.dtype) -> Encoder:
    """The encoder that a run begins with, attending as it does at its end.

    Args:
        tokenizer: the run's vocabulary.
        dtype: type of the activations; weights stay float32.
    """
    architecture: type[Encoder] = Encoder
    if run.encoder.architecture != "transformer":
        architecture = plugins.load(run.encoder.architecture, "encoder", "encoder.architecture")
    encoder = architecture(run.encoder, tokenizer.size, run.seed, dtype)
    encoder.pattern = schedules.pattern(run, 1.0)
    if run.init_from is not None:
        from mlm import hugging_face

        hugging_face.load(Path(run.init_from), encoder, tokenizer)
    return encoder
