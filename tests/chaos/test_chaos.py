"""Killed again and again, the pipeline comes to the bits of an undisturbed one."""

from pathlib import Path

import pytest

from tests.chaos.chaos import Chaos
from tests.chaos.tiny import finished, tiny
from tests.pipeline.copies import SCALE, Copy

pytestmark = pytest.mark.long
KILLS = 3


def test_killed_at_random_moments_and_made_again_gives_the_same_bits(calm: Copy, tmp_path: Path) -> None:
    place = tiny(tmp_path / "chaos")
    chaos = Chaos(place, seed=1)
    try:
        assert chaos.kill("snakemake", jobs=1, delay_seconds=0.1)
        # Bare Snakemake says how to unlock; make unlocks, ends what lives on, and says so.
        refused = place.run("snakemake", "--cores", "all", *SCALE, ok=False)
        assert refused.returncode != 0
        assert "--unlock" in refused.stdout + refused.stderr
        chaos.run(KILLS)
    finally:
        chaos.end()
    counts = chaos.counts
    assert counts.kills >= KILLS, counts
    assert counts.told["stale lock removed"] >= 1, counts
    found, expected = finished(place), finished(calm)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    again = place.run(*place.make("smoke"))
    assert "Nothing to be done" in again.stdout + again.stderr
