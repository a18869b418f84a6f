"""The tiny pipeline undisturbed, once a session."""

import pytest

from tests.chaos.tiny import tiny
from tests.pipeline.copies import Copy


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """The finished tiny pipeline. Tests must leave it as it is."""
    place = tiny(tmp_path_factory.mktemp("calm"))
    place.run(*place.make("smoke"))
    return place
