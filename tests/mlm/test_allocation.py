"""What a cluster is asked for grows with what a run needs."""

from pathlib import Path

import pytest

from mlm import allocation, config, costs, measured
from mlm.config import Numerics, Run

CPU, GPU = Numerics(device="cpu", dtype="bfloat16"), Numerics(device="cuda", dtype="bfloat16")


def run(**told: object) -> Run:
    return Run.model_validate(told)


@pytest.fixture
def nothing_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> costs.History:
    monkeypatch.chdir(tmp_path)
    return costs.History()


@pytest.mark.parametrize("numerics", [CPU, GPU])
def test_twice_the_tokens_take_twice_the_time_and_the_same_memory(
    numerics: Numerics, nothing_ended: costs.History
) -> None:
    budget = 2**36
    one, two = run(budget_tokens=budget), run(budget_tokens=2 * budget)

    def training(which: Run) -> int:
        return allocation.minutes(which, numerics, nothing_ended) - allocation.START_MINUTES

    assert training(two) == pytest.approx(2 * training(one), abs=1)
    assert allocation.memory_mb(two, numerics) == allocation.memory_mb(one, numerics)


def test_a_micro_batch_is_in_main_memory_where_there_is_no_gpu() -> None:
    whole, half = run(batch_size=1024), run(batch_size=1024, micro_batch=512)
    fixed = allocation.memory_mb(run(batch_size=1024, micro_batch=1), CPU)
    spared = allocation.memory_mb(whole, CPU) - allocation.memory_mb(half, CPU)
    assert 2 * spared == pytest.approx(allocation.memory_mb(whole, CPU) - fixed, rel=0.01)
    assert allocation.memory_mb(whole, GPU) == allocation.memory_mb(half, GPU)


def test_a_larger_model_takes_more_of_both(nothing_ended: costs.History) -> None:
    sizes = [run(encoder={"size": size}) for size in config.SIZES]
    for numerics in (CPU, GPU):
        memory = [allocation.memory_mb(one, numerics) for one in sizes]
        minutes = [allocation.minutes(one, numerics, nothing_ended) for one in sizes]
        assert memory == sorted(set(memory))
        assert minutes == sorted(minutes)
    full = Numerics(device="cpu", dtype="float32")
    assert allocation.memory_mb(sizes[0], full) > allocation.memory_mb(sizes[0], CPU)
    assert (
        allocation.minutes(sizes[-1], full, nothing_ended)
        > allocation.minutes(sizes[-1], CPU, nothing_ended)
        > allocation.minutes(sizes[-1], GPU, nothing_ended)
    )


def test_measures_take_time_too(nothing_ended: costs.History) -> None:
    tuned = measured.Measured("finetune.trec", "file.json", "", None, None, over_training=False)
    alone, more = (allocation.minutes(run(), CPU, nothing_ended, taken) for taken in ((), [tuned]))
    assert more - alone >= costs.MEASURE_SECONDS["finetune"] / 60


def test_several_processes_take_the_memory_of_each_with_its_rows_of_a_batch() -> None:
    pair = Numerics(device="cpu", dtype="bfloat16", processes=2)
    half = allocation.memory_mb(run(batch_size=512), CPU)
    assert allocation.memory_mb(run(batch_size=1024), pair) == 2 * half
    assert allocation.memory_mb(run(batch_size=1024, micro_batch=512), pair) == 2 * half
    assert allocation.memory_mb(run(batch_size=1024, micro_batch=256), pair) < 2 * half


def test_several_processes_share_the_time_of_a_run(nothing_ended: costs.History) -> None:
    four = GPU.model_copy(update={"processes": 4})
    one, shared = (allocation.minutes(run(budget_tokens=10**10), n, nothing_ended) for n in (GPU, four))
    assert shared - allocation.START_MINUTES == pytest.approx((one - allocation.START_MINUTES) / 4, abs=1)
