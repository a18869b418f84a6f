"""The learning rate over tokens: shape, limits, and no step of rate zero."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm import config
from mlm.schedules import learning_rate, masking, progress


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


@given(
    shape=st.sampled_from(["linear", "cosine", "step"]),
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    at=st.floats(0, 1),
    steps=st.integers(1, 50),
)
def test_laws_of_a_changing_mask_rate(shape: str, ends: tuple[float, float], at: float, steps: int) -> None:
    change = {"shape": shape, "rate": ends[1], **({"at": at} if shape == "step" else {})}
    stated = config.Masking.model_validate({"rate": ends[0], "change": change})
    found = [masking(stated, progress(step, steps)).rate for step in range(steps)]
    low, high = min(ends), max(ends)
    assert all(low - 1e-12 <= rate <= high + 1e-12 for rate in found)
    assert found == sorted(found, reverse=ends[1] < ends[0])
    assert found[-1] == ends[1]
    if steps > 1 and (shape != "step" or at > 0):
        assert found[0] == ends[0]
    assert all(masking(stated, progress(step, steps)).change is None for step in range(steps))


def test_a_changing_split_is_a_split_at_every_step() -> None:
    stated = config.Masking.model_validate(
        {
            "split": {"mask": 1.0},
            "change": {"shape": "linear", "split": {"mask": 0.8, "same": 0.1, "random": 0.1}},
        }
    )
    found = [masking(stated, progress(step, 11)) for step in range(11)]
    assert found[0].split == config.Split(mask=1.0)
    assert found[-1].split == config.Split(mask=0.8, same=0.1, random=0.1)
    assert found[5].split.mask == pytest.approx(0.9)
    assert found[5].split.random == pytest.approx(0.05)
    assert {one.rate for one in found} == {0.15}


def test_a_step_happens_at_its_place() -> None:
    stated = config.Masking.model_validate({"rate": 0.3, "change": {"shape": "step", "rate": 0.15, "at": 0.5}})
    assert [masking(stated, progress(step, 5)).rate for step in range(5)] == [0.3, 0.3, 0.15, 0.15, 0.15]


def test_a_cosine_decay_against_a_count_by_hand() -> None:
    optimizer = config.Optimizer(learning_rate=1.0, decay_tokens=40, decay_shape="cosine")
    found = [learning_rate(optimizer, 50, t, t + 10) for t in range(0, 50, 10)]
    assert found == pytest.approx([1.0, 1.0, 0.853553, 0.5, 0.146447], abs=1e-6)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"change": {"shape": "linear", "rate": 1.2}}, "rate"),
        ({"change": {"shape": "linear"}}, "changes nothing"),
        ({"change": {"shape": "sideways", "rate": 0.3}}, "shape"),
        ({"change": {"shape": "step", "rate": 0.3, "at": -0.1}}, "at"),
    ],
)
def test_a_change_that_cannot_be_is_refused(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        config.Masking.model_validate(wrong)
