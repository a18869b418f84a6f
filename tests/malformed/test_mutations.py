"""Whatever stands in the place of a key, or beside it: a file is accepted, or refused by file and key."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlm import golden
from tests.malformed import valid
from tests.malformed.commands import typed
from tests.malformed.schemas import misspelt
from tests.malformed.stated import WORDS
from tests.mlm.places import write_yaml

NAMES = st.sampled_from(
    ["a b", "$(touch pwned)", "`touch pwned`", "-x", "--help", "../x", "x\ny", "größe", "'\"", "", "trial",
     "test.own.loss_nats", "masking.rate", "lab:mine", "~"],
)  # fmt: skip
NUMBERS = st.sampled_from(
    [0, -1, 1, 2, 10**30, -(10**30), 2**63, 1.5, 1e308, 1e-320, float("nan"), float("inf"), 1e16]
)
LEAVES = st.none() | st.booleans() | NUMBERS | NAMES | st.text(max_size=5)
JUNK = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
)
FILES = [valid.TEST_SCALE, valid.TRIAL, valid.REFERENCE, valid.MIXED, valid.PACKAGED, valid.HUB, valid.TASK]


def places(content: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The paths of all keys and entries."""
    entries = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    return [found for key, value in entries for found in ((*path, key), *places(value, (*path, key)))]


WHERE = [(file, path) for file in FILES for path in places(valid.WHOLE[file])]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return valid.found(tmp_path_factory.mktemp("mutated"))


@pytest.fixture(autouse=True)
def _without_golden_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come after everything that is refused, and take seconds."""
    monkeypatch.setattr(golden, "codes", lambda numerics, asked: ["0" * 16 for _ in asked])


def _replaced(here: Any, key: Any, junk: Any) -> None:
    here[key] = junk


def _renamed(here: Any, key: Any, junk: Any) -> None:
    here[misspelt(key) if isinstance(key, str) else key] = here.pop(key)


def _beside(here: Any, key: Any, junk: Any) -> None:
    if isinstance(here, dict):
        here[str(junk)] = here[key]
    else:
        here.append(junk)


def _gone(here: Any, key: Any, junk: Any) -> None:
    del here[key]


@settings(
    max_examples=220, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
@given(
    where=st.sampled_from(WHERE),
    how=st.sampled_from([_replaced, _replaced, _replaced, _renamed, _beside, _gone]),
    junk=JUNK,
)
def test_a_mutated_file_is_accepted_or_refused_by_its_name(
    study: Path, where: tuple[str, tuple[str | int, ...]], how: Callable[[Any, Any, Any], None], junk: Any
) -> None:
    file, path = where
    content = copy.deepcopy(valid.WHOLE[file])
    here: Any = content
    for part in path[:-1]:
        here = here[part]
    if isinstance(here, list) and how is _renamed:
        how = _replaced
    how(here, path[-1], junk)
    (study / file).write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    try:
        told = typed(study, *WORDS[file])
    finally:
        write_yaml(study / file, valid.WHOLE[file])
    assert told.code in (0, 2), (content, told)
    if told.code == 2:
        # What a scale asks for may be refused where an arm comes upon it.
        assert all("experiments/" in line for line in told.said.splitlines() if line.startswith("error: ")), (
            told.said
        )
        assert "Traceback" not in told.said
    assert not (study / "pwned").exists()
