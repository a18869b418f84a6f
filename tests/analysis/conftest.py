"""A place of its own for each study, and the synthetic results in it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic_results import EXPERIMENT, Synthetic

from analysis import collect, contrasts, study


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Synthetic]:
    """make(**options) writes synthetic results and makes their folder the current one."""

    def build(**options: Any) -> Synthetic:
        monkeypatch.chdir(tmp_path)
        return Synthetic(tmp_path, **options).write()

    return build


@pytest.fixture
def analysed(make: Callable[..., Synthetic]) -> Callable[..., Synthetic]:
    """The same, collected and with its contrasts."""

    def build(**options: Any) -> Synthetic:
        made = make(**options)
        planned = study.load(made.scale)
        collect.collect(planned, EXPERIMENT)
        contrasts.write(planned, EXPERIMENT)
        return made

    return build
