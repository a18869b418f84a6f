"""Malformed input ends with exit code 2 and a message of file, key and remedy; docs/refusals.md lists all."""

import re
from pathlib import Path

import pytest

from tests.malformed import catalogue
from tests.malformed.catalogue import Entry

REMEDY = re.compile(r"; |did you mean|there are: |is one of: |tasks are: |expected |known keys")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    return list(catalogue.entries(tmp_path_factory.mktemp("malformed").resolve()))


def test_every_input_is_refused_by_file_key_and_remedy(found: list[Entry]) -> None:
    assert len(found) >= 200
    wrong = {entry.case.what: problem for entry in found if (problem := _problem(entry))}
    assert not wrong, "\n".join(f"{what}: {problem}" for what, problem in wrong.items())


def _problem(entry: Entry) -> str:
    """What an input was met with that it should not be."""
    case, told, lines = entry.case, entry.told, entry.told.said.splitlines()
    if told.code != case.code or "Traceback" in told.said:
        return f"exit code {told.code}: {told.said}"
    if not case.code:
        return "" if entry.lines else f"nothing said: {told.printed}"
    if not all(line.startswith("error: ") for line in lines):
        return f"more lines than problems: {lines}"
    if not any(all(word in line for word in case.named) for line in lines):
        return f"does not name {case.named}: {lines}"
    silent = [line for line in lines if not REMEDY.search(line)]
    return f"no remedy: {silent}" if silent else ""


def test_the_list_is_what_is_said_now(found: list[Entry]) -> None:
    assert catalogue.document(found) == catalogue.LIST.read_text(encoding="utf-8"), f"run `{catalogue.COMMAND}`"
    assert not re.search(r"/tmp/|/home/|/root/", catalogue.LIST.read_text(encoding="utf-8"))
    assert not Path("pwned").exists()
