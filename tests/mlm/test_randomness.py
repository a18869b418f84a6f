"""Randomness is a function of (seed, purpose, step, name), and different coordinates share nothing."""

import subprocess
import sys

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mlm.randomness import Purpose, generator, uniform, uniform_on

coordinates = st.tuples(
    st.integers(0, 2**63 - 1), st.sampled_from(Purpose), st.integers(0, 2**62), st.sampled_from(["", "a", "b"])
)


@given(one=coordinates, other=coordinates)
def test_equal_coordinates_equal_streams_and_else_not(one, other) -> None:
    first, again, second = (generator(*c).integers(2**63, size=4) for c in (one, one, other))
    assert (first == again).all()
    assert (one == other) == bool((first == second).all())


@given(seed=st.integers(0, 2**63 - 1), step=st.integers(0, 10**9))
def test_neighbouring_steps_and_seeds_do_not_overlap(seed: int, step: int) -> None:
    """Streams that were offsets of one another would share numbers."""
    streams = [generator(seed, Purpose.MASKING, step + i).integers(2**63, size=64) for i in range(3)]
    assert len(np.unique(np.concatenate(streams))) == 3 * 64


def test_numbers_of_purposes_are_fixed_for_ever() -> None:
    assert {p.name: p.value for p in Purpose} == {
        "INITIALISATION": 1, "ORDER": 2, "MASKING": 3, "DROPOUT": 4, "EVALUATION": 5, "PROMPTS": 6, "PAIRS": 7,
        "SENTENCES": 8, "FINETUNING": 9,
    }  # fmt: skip


def test_the_streams_themselves_are_those_of_philox() -> None:
    """Known numbers: a changed NumPy or key layout changes every result and must be noticed."""
    source = np.random.Philox(key=np.array([3, 3], np.uint64), counter=np.array([0, 7, 0, 0], np.uint64))
    assert (generator(3, Purpose.MASKING, 7).random(5) == np.random.Generator(source).random(5)).all()
    program = "from mlm.randomness import *; print(generator(3, Purpose.MASKING, 7).integers(2**63))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert int(said) == generator(3, Purpose.MASKING, 7).integers(2**63)


def test_draws_over_steps_are_uniform_and_uncorrelated() -> None:
    first = np.array([generator(0, Purpose.ORDER, step).random() for step in range(4000)])
    assert stats.kstest(first, "uniform").pvalue > 1e-6
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 5 / np.sqrt(len(first))


def test_uniform_is_the_generator_as_a_tensor() -> None:
    drawn = uniform(generator(1, Purpose.DROPOUT, 2))((3, 4))
    assert torch.equal(drawn, torch.from_numpy(generator(1, Purpose.DROPOUT, 2).random((3, 4))))
    assert torch.equal(drawn, uniform_on(torch.device("cpu"), 1, Purpose.DROPOUT, 2)((3, 4)))
    assert drawn.dtype == torch.float64
    assert float(drawn.min()) >= 0
    assert float(drawn.max()) < 1
