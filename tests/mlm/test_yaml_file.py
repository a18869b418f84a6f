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


def outcome(text: str, fast: bool) -> Any:
    """What a text is read as, or what is said of it, by the fast loader first or by the other alone."""
    with mock.patch.object(yaml_file, "MOST_OPENED", 10**9 if fast else 0):
        try:
            return yaml_file.parse(text, "file")
        except InputError as error:
            return error.problems


@given(PLAIN)
def test_both_loaders_read_what_was_written(content: Any) -> None:
    text = yaml.safe_dump(content, allow_unicode=True)
    assert repr(outcome(text, fast=False)) == repr(outcome(text, fast=True))


@given(st.text("ab1.-:,[]{}&*|>'\"#? \n", max_size=24))
@example("rate: 1e-3")
@example("a: &a [1, *a]")
@example("a: 1\na: 2")
@example("{1: 2}")
@example("day: 2024-01-01")
@example("a: [1, 2")
def test_what_one_loader_takes_the_fast_one_reads_alike(text: str) -> None:
    """Tags apart. It takes some that are no YAML, too, such as `|#`, and refuses in the words of the other."""
    told, fast = outcome(text, fast=False), outcome(text, fast=True)
    assert fast == told or (isinstance(told, tuple) and not isinstance(fast, tuple))


def test_a_few_names_that_come_to_a_billion_values_are_refused() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 30)]
    (said,) = outcome("\n".join(lines), fast=True)
    assert said.startswith("file, line 16: comes to more than 100,000 values; repeat less by `*names`")


@pytest.mark.parametrize("text", ["[" * 200_000, "- " * 100_000, "? " * 100_000, "{a: " * 50_000])
def test_what_goes_too_deep_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="goes too deep"):
        yaml_file.parse(text, "file")


@pytest.mark.parametrize("text", ["a: !!bool x", 'a: !!int ""'])
def test_what_is_not_of_its_type_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^file: not readable as YAML: "):
        yaml_file.parse(text, "file")


@pytest.mark.parametrize(
    ("text", "number"), [("064", 52), ("1:30:00", 5400), ("-10:30", -630), ("1:30.5", 90.5)]
)
def test_numbers_of_yaml_1_1_that_nobody_means_are_refused(text: str, number: float) -> None:
    for fast in (False, True):
        (said,) = outcome(f"a: 1\nseconds: {text}", fast)
        assert said.startswith(
            f"file, line 2: {text} is {number} in YAML, by eights or sixties; write the number"
        )
        assert outcome(f"a: '{text}'", fast) == {"a": text}
    assert outcome("[0, -0, 00, 007, 0.5, 0x10, 1_000]", fast=True) == [0, 0, 0, 7, 0.5, 16, 1000]


@pytest.mark.parametrize("text", ["a: !!int [1]", "a: !!float {b: 1}", "a: !!int {=: 1}"])
def test_a_collection_that_is_called_a_number_ends_in_no_traceback(text: str) -> None:
    for fast in (False, True):
        told = outcome(text, fast)
        assert isinstance(told, tuple) or told == {"a": 1}
