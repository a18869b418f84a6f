"""The fast loader and the one that tells best take the same files and read the same in them."""

from typing import Any
from unittest import mock

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from mlm import yaml_file
from mlm.errors import InputError

TEXT = st.text(st.characters(codec="utf-8"))
NUMBER = st.integers() | st.floats(allow_nan=False)
KEY = st.text("abcü:- #", min_size=1)
PLAIN = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEY, inner, max_size=4),
    max_leaves=12,
)


def outcome(text: str, characters: int) -> Any:
    """What a text is read as, or what is said of it, where the fast loader has texts below a length."""
    with mock.patch.object(yaml_file, "SHORT_CHARACTERS", characters):
        try:
            return yaml_file.parse(text, "file")
        except InputError as error:
            return error.problems


@given(PLAIN)
def test_both_loaders_read_what_was_written(content: Any) -> None:
    text = yaml.safe_dump(content, allow_unicode=True)
    assert repr(outcome(text, 0)) == repr(outcome(text, 10**9))


@given(st.text("ab1.-:,[]{}&*|>'\"#? \n", max_size=24))
@example("rate: 1e-3")
@example("a: &a [1, *a]")
@example("a: 1\na: 2")
@example("{1: 2}")
@example("day: 2024-01-01")
@example("a: [1, 2")
def test_what_one_loader_takes_the_fast_one_reads_alike(text: str) -> None:
    """It takes some that are no YAML, too, such as `|#`, and refuses in the words of the other."""
    told, fast = outcome(text, 0), outcome(text, 10**9)
    assert fast == told or (isinstance(told, tuple) and not isinstance(fast, tuple))


def test_a_few_names_that_come_to_a_billion_values_are_refused() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 30)]
    (said,) = outcome("\n".join(lines), 10**9)
    assert said.startswith("file, line 16: comes to more than 100,000 values; repeat less by `*names`")


@pytest.mark.parametrize("characters", [10_000, 200_000])
def test_what_goes_too_deep_is_refused(characters: int) -> None:
    (said,) = outcome("[" * characters, yaml_file.SHORT_CHARACTERS)
    assert "goes too deep" in said
