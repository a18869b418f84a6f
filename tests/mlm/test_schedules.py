"""The learning rate over tokens: shape, limits, and no step of rate zero."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm import config
from mlm.schedules import learning_rate


def rates(step: int, steps: int, warmup: int, decay: int, peak: float = 1.0) -> list[float]:
    optimizer = config.Optimizer(learning_rate=peak, warmup_tokens=warmup, decay_tokens=decay)
    return [learning_rate(optimizer, step * steps, n * step, (n + 1) * step) for n in range(steps)]


@given(
    step=st.integers(1, 5000), steps=st.integers(1, 60), share=st.tuples(st.floats(0, 0.5), st.floats(0, 0.5))
)
def test_laws_of_every_schedule(step: int, steps: int, share: tuple[float, float]) -> None:
    budget = step * steps
    found = rates(step, steps, int(share[0] * budget), int(share[1] * budget), 3e-3)
    assert all(0 < rate <= 3e-3 for rate in found)
    top = found.index(max(found))
    assert found[: top + 1] == sorted(found[: top + 1])
    assert found[top:] == sorted(found[top:], reverse=True)


def test_against_a_count_by_hand() -> None:
    assert rates(10, 10, 40, 50) == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    assert rates(10, 4, 0, 0) == [1, 1, 1, 1]
    assert rates(10, 4, 40, 0) == pytest.approx([0.25, 0.5, 0.75, 1])
    assert rates(10, 4, 0, 40) == pytest.approx([1, 0.75, 0.5, 0.25])


def test_the_schedule_knows_tokens_and_not_steps() -> None:
    """Half the batch, twice the steps: the same rate at the same token, on constant and decay."""
    coarse, fine = rates(20, 10, 0, 100), rates(10, 20, 0, 100)
    assert fine[::2] == pytest.approx(coarse)
