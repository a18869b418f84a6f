"""What a run says of selecting and corrupting tokens; see mlm.masking."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mlm.fields import Count, PluginPath, Shape, Share
from mlm.yaml_file import Strict


class Split(Strict):
    """How the selected tokens are corrupted, as shares of them: MASK/SAME/RND of BERT's table 8."""

    mask: Share = 0.0
    same: Share = 0.0
    random: Share = 0.0

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        total = self.mask + self.same + self.random
        if abs(total - 1) > 1e-9:
            raise ValueError(
                f"mask + same + random = {total:g}; the shares of the selected tokens must add up to 1, "
                "for instance {mask: .8, same: .1, random: .1}"
            )
        return self


class Span(Strict):
    """Lengths of spans, in words (Joshi et al. 2020, SpanBERT, arXiv 1907.10529): geometric, clipped."""

    p: Annotated[float, Field(gt=0.0, le=1.0)] = 0.2
    """P(length = k) ∝ (1 - p)^(k - 1); what is longer than `longest` counts as `longest`."""
    longest: Count = 10


class Change(Strict):
    """Where rate and split go while a run trains; what is not given stays."""

    shape: Shape
    rate: Share | None = None
    split: Split | None = None
    at: Share = 0.5
    """Of `step`: the share of the run after which the new values hold."""

    @model_validator(mode="after")
    def _changes(self) -> Self:
        if self.rate is None and self.split is None:
            raise ValueError("changes nothing; give the `rate` or the `split` that the run ends with")
        if self.shape != "step" and self.at != 0.5:
            raise ValueError("at: goes with shape: step; leave it out")
        return self


class Masking(Strict):
    """Which tokens are selected for prediction, and what stands in their place."""

    rate: Share = 0.15
    """Share of the ordinary tokens that is selected; at the beginning, where it changes."""
    selection: Literal["exact", "bernoulli"] = "exact"
    """`exact`: rate × length tokens a row, stochastically rounded; `bernoulli`: independent draws."""
    unit: Literal["token", "word", "span"] = "token"
    """What is selected as a whole: a token, all tokens of a word, or those of a stretch of words."""
    span: Span = Span()
    split: Split = Split(mask=0.8, same=0.1, random=0.1)
    change: Change | None = None
    predicted: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Share of the selected tokens that is predicted; the others are only corrupted."""
    strategy: PluginPath | None = None
    """A function in the place of mlm.masking.corrupt."""

    @model_validator(mode="after")
    def _whole_units(self) -> Self:
        if self.unit != "token" and self.selection == "bernoulli":
            raise ValueError(f"selection: bernoulli draws tokens one by one; with unit: {self.unit} use exact")
        return self


YARDSTICK = Masking(rate=0.15, split=Split(mask=1.0))
"""The corruption under which all arms of all experiments are compared."""
