"""Shapes in signatures are checked here, and only here: a run pays nothing for them."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

CHECKED = ("mlm.masking", "mlm.batches", "mlm.objectives", "mlm.encoder", "mlm.evaluate")
install_import_hook(CHECKED, "beartype.beartype")

# Golden runs of this source are computed once for all tests, each of which has results of its own.
os.environ.setdefault("MLM_GOLDEN", str(Path(__file__).parents[1] / ".cache" / "golden"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes test, what is built once for a file, or for the pipeline's, is built by one."""
    for item in items:
        folder = item.path.parent
        item.add_marker(pytest.mark.xdist_group(str(folder if folder.name == "pipeline" else item.path)))
