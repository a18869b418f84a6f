"""The benchmark of large studies works; what it measures is measured by hand."""

import pytest

from tests import large


def test_a_study_is_planned_told_of_and_collected(capsys: pytest.CaptureFixture[str]) -> None:
    assert large.main(40) == {"finished": 40, "diverged": 0, "unfinished": 0}
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "plan",
        "dry",
        "status",
        "collect",
    ]
