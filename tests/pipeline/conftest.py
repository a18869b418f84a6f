"""The whole pipeline at smoke scale, once a session."""

import pytest

from tests.pipeline.copies import Copy, copy_to


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """The finished smoke pipeline, undisturbed, on all cores. Tests must leave it as it is."""
    copy = copy_to(tmp_path_factory.mktemp("smoke"))
    copy.snakemake()
    return copy
