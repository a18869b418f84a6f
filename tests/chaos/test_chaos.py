"""Killed again and again, the pipeline comes to the bits of an undisturbed one."""

from pathlib import Path

import pytest

from tests.chaos.chaos import Chaos
from tests.chaos.tiny import finished, tiny
from tests.pipeline.copies import SCALE, Copy

pytestmark = pytest.mark.pipeline
KILLS = 5


def test_killed_at_random_moments_and_made_again_gives_the_same_bits(calm: Copy, tmp_path: Path) -> None:
    place = tiny(tmp_path / "chaos")
    chaos = Chaos(place, seed=1)
    chaos.run(KILLS)
    assert chaos.counts.kills >= KILLS, chaos.counts
    found, expected = finished(place), finished(calm)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    again = place.run(*place.make("smoke"))
    assert "Nothing to be done" in again.stdout + again.stderr
