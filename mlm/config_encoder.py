"""What a run says of its encoder; see mlm.encoder."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mlm.fields import Count, or_plugin, whole
from mlm.yaml_file import Strict

SIZES: dict[str, dict[str, int]] = {
    # Turc et al. 2019, "Well-read students learn better" (arXiv 1908.08962), table 1.
    "tiny": {"layers": 2, "width": 128},
    "mini": {"layers": 4, "width": 256},
    "small": {"layers": 4, "width": 512},
    "medium": {"layers": 8, "width": 512},
    "base": {"layers": 12, "width": 768},
}
PRESETS: dict[str, dict[str, Any]] = {
    "bert": {  # Devlin et al. 2018 (arXiv 1810.04805)
        "positions": "learned",
        "query_key_norm": False,
        "embedding_norm": True,
        "norm": "layer",
        "norm_place": "post",
        "activation": "gelu",
        "biases": True,
        "head_transform": True,
        "dropout": 0.1,
    },
    "modern": {  # rotary: Su et al. 2021; query-key norm: Henry et al. 2020; ReLU²: So et al. 2021
        "positions": "rotary",
        "query_key_norm": True,
        "norm": "rms",
        "norm_place": "pre",
        "activation": "relu_squared",
        "biases": False,
        "head_transform": False,
        "dropout": 0.0,
    },
}


class Encoder(Strict):
    """A transformer encoder, spelled out; `preset` and `size` fill in what is not given."""

    architecture: Annotated[str, or_plugin("transformer")] = "transformer"
    layers: Annotated[Count, Field(le=1000)]
    width: Count
    heads: Count
    feedforward_width: Count
    positions: Literal["learned", "sinusoidal", "rotary"]
    max_positions: Count = 512
    query_key_norm: bool
    embedding_norm: bool = True
    """Whether the embeddings are normalised before the first block."""
    norm: Literal["layer", "rms"]
    norm_place: Literal["pre", "post"]
    activation: Literal["gelu", "relu_squared"]
    biases: bool
    head_transform: bool
    segments: bool = False
    """Embeddings of two segments, and a head that judges how the second goes with the first."""
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)]

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        explicit = dict(given)
        preset, size = explicit.pop("preset", "modern"), explicit.pop("size", "tiny")
        for key, value, table in (("preset", preset, PRESETS), ("size", size, SIZES)):
            if not isinstance(value, str) or value not in table:
                raise ValueError(f"`{key}` is {value!r}; choose one of {', '.join(table)}")
        full = {**PRESETS[preset], **SIZES[size], **explicit}
        width = whole(full["width"])
        if isinstance(width, int) and width > 0:
            full.setdefault("heads", max(1, width // 64))  # heads of 64, as in all of Turc's sizes
            full.setdefault("feedforward_width", 4 * width)
        return full

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by {self.heads} heads; change one")
        if self.positions == "sinusoidal" and self.width % 2:
            raise ValueError(f"sinusoidal positions need an even width; it is {self.width}")
        if self.positions == "rotary" and (self.width // self.heads) % 2:
            raise ValueError(
                f"rotary positions need an even head width; width / heads is {self.width // self.heads}"
            )
        return self
