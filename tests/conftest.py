"""Shapes in signatures are checked here, and only here: a run pays nothing for them."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from jaxtyping import install_import_hook

CHECKED = ("mlm.masking", "mlm.batches", "mlm.objectives", "mlm.encoder", "mlm.evaluate")
install_import_hook(CHECKED, "beartype.beartype")

# Golden runs of this source are computed once for all tests, each of which has results of its own.
os.environ.setdefault("MLM_GOLDEN", str(Path(__file__).parents[1] / ".cache" / "golden"))


# What takes longest comes first, so that no worker waits long for the last.
FIRST = ("pipeline", "chaos", "malformed", "analysis")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: (*FIRST, item.path.parent.name).index(item.path.parent.name))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several processes test, what is built once for a file, or for the pipeline's, is built by one.

    xdist's own groups do nothing under pytest 9.2: it writes them into an attribute that is there no more.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = Path(nodeid.partition("::")[0])
            return str(file.parent if file.parent.name == "pipeline" else file)

    return ByFile(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str) -> None:
    """Say at once which test a process ended in: the summary comes only after all others."""
    print(f"\nthe process that ran {crashitem} is gone", file=sys.__stderr__, flush=True)


@pytest.fixture(autouse=True)
def _same_environment() -> Iterator[None]:
    """What a command that runs in this process sets in the environment is no other test's."""
    with mock.patch.dict(os.environ):
        yield
