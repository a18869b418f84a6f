"""What the runs of all experiments are asked to do, in words and numbers, shared or not."""

from collections.abc import Iterator, Sequence
from typing import Any

from analysis.manuscript_markdown import listed
from analysis.manuscript_part import Part
from analysis.quote import Quoter
from mlm import figures
from mlm.errors import InputError

# The encoder's settings in words; a setting without words here stops the build rather than pass unsaid.
WORDS: dict[str, dict[Any, str]] = {
    "encoder.positions": {
        "rotary": "rotary positions [@su2021roformer]",
        "learned": "learned absolute positions",
        "sinusoidal": "sinusoidal positions [@vaswani2017attention]",
    },
    "encoder.norm": {"rms": "RMSNorm without gain [@zhang2019rmsnorm]", "layer": "layer normalisation"},
    "encoder.norm_place": {"pre": "before", "post": "behind"},
    "encoder.activation": {"relu_squared": "ReLU² [@so2021primer]", "gelu": "GELU"},
    "encoder.query_key_norm": {
        True: "with normalised queries and keys [@henry2020querykey]",
        False: "with scaled dot products",
    },
    "encoder.biases": {True: "with biases", False: "without biases"},
    "encoder.head_transform": {True: "a dense layer and", False: ""},
    "masking.selection": {"exact": "exact", "bernoulli": "bernoulli"},
    "vocabulary.kind": {"unigram": "unigram language model", "bpe": "byte-pair encoding", "char": "characters"},
}


MANY = 5
"""Different values up to which each is told."""


class Settings:
    """What the runs of all experiments are asked to do, where they share it and where they do not."""

    def __init__(self, parts: Sequence[Part], quote: Quoter) -> None:
        self.parts, self.quote = parts, quote

    def _of(self, key: str) -> Iterator[tuple[str, str, Any]]:
        """(experiment, arm, value) of the runs that the key means something to."""
        for part in self.parts:
            for arm, run in part.runs_of.items():
                value = figures.setting(run, key)
                if value is not None and (run.corrupts or not key.startswith("masking.")):
                    yield part.name, arm, value

    def values(self, key: str) -> list[Any]:
        """The different values, in the order of experiments and arms."""
        return list(dict.fromkeys(value for _, _, value in self._of(key)))

    def words(self, key: str) -> str:
        """The different values in words.

        Raises:
            InputError: there are no words for one.
        """
        known = WORDS.get(key, {})
        for name, _, value in self._of(key):
            if value not in known:
                raise InputError(
                    f"no words for {key} = {value!r} in {name}; add them to analysis/manuscript_settings.py"
                )
        return listed([known[value] for value in self.values(key)], "or")

    def stated(self, key: str) -> str:
        """The different values of a number of the experiments' set-up, ascending, each quoted once."""
        ids = [f"{part.name}.setup.{key}" for part in reversed(self.parts)]
        told = {self.quote.entries[one]["value"]: one for one in ids if self.quote.has(one)}
        return listed([self.quote.num(told[value]) for value in sorted(told)], "or")

    def numbers(self, key: str) -> str:
        """The different values as numbers, ascending, each quoted once; of many the first and the last."""
        ids: dict[Any, str] = {}
        for name, arm, value in self._of(key):
            shared = f"{name}.setup.{key}"
            ids.setdefault(value, shared if self.quote.has(shared) else f"{name}.{arm}.setup.{key}")
        found = sorted(ids)
        if len(found) > MANY:
            return f"{self.quote.num(ids[found[0]])} to {self.quote.num(ids[found[-1]])}"
        return listed([self.quote.num(ids[value]) for value in found], "or")
