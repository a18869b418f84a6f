"""Malformed input ends with exit code 2 and a message that names file, key and remedy; docs/refusals.md lists all."""

import re
from pathlib import Path

import pytest

from tests.malformed import catalogue
from tests.malformed.catalogue import Entry

REMEDY = re.compile(r"; |did you mean|choose one of|there are: |is one of: |expected |delete ")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    return list(catalogue.entries(tmp_path_factory.mktemp("malformed").resolve()))


def test_every_input_is_refused_by_file_key_and_remedy(found: list[Entry]) -> None:
    assert len(found) >= 200
    wrong = [(case.what, told) for case, told in found if told.code != case.code or "Traceback" in told.said]
    assert not wrong
    for entry in found:
        case, lines = entry.case, entry.told.said.splitlines()
        if case.code:
            assert any(all(word in line for word in case.named) for line in lines), (case.what, case.named, lines)
            silent = [line for line in entry.lines if line.startswith("error: ") and not REMEDY.search(line)]
            assert not silent, (case.what, silent)
            assert lines[0].startswith("error: "), (case.what, lines)
        else:
            assert entry.lines, (case.what, entry.told)


def test_the_list_is_what_is_said_now(found: list[Entry]) -> None:
    assert catalogue.document(found) == catalogue.LIST.read_text(encoding="utf-8"), f"run `{catalogue.COMMAND}`"
    assert not re.search(r"/tmp/|/home/|/root/", catalogue.LIST.read_text(encoding="utf-8"))
    assert not Path("pwned").exists()
