"""Shapes in signatures are checked here, and only here: a run pays nothing for them."""

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from jaxtyping import install_import_hook

CHECKED = ("mlm.masking", "mlm.batches", "mlm.objectives", "mlm.encoder", "mlm.evaluate")
install_import_hook(CHECKED, "beartype.beartype")

# Golden runs of this source are computed once for all tests, each of which has results of its own.
os.environ.setdefault("MLM_GOLDEN", str(Path(__file__).parents[1] / ".cache" / "golden"))


# What takes longest comes first, so that no worker waits long for the last.
FIRST = ("pipeline", "chaos", "malformed", "analysis")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes test, what is built once for a file, or for the pipeline's, is built by one."""
    for item in items:
        folder = item.path.parent
        item.add_marker(pytest.mark.xdist_group(str(folder if folder.name == "pipeline" else item.path)))
    items.sort(key=lambda item: (*FIRST, item.path.parent.name).index(item.path.parent.name))


@pytest.fixture(autouse=True)
def _same_environment() -> Iterator[None]:
    """What a command that runs in this process sets in the environment is no other test's."""
    with mock.patch.dict(os.environ):
        yield
