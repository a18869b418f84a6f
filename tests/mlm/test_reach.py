"""The cost of a loss: interpolated between evaluations, on the trunk alone, missing where it is not reached."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm import config, reach

RUN = config.Run.model_validate(
    {"sequence_length": 8, "batch_size": 1, "budget_tokens": 800, "optimizer": {"decay_tokens": 400}}
)


def records(losses: list[float], every: int = 100) -> list[dict[str, Any]]:
    """Evaluations every so many tokens, with a training record before each."""
    found = []
    for number, loss in enumerate(losses):
        place = {"tokens": every * number, "flops": 7 * every * number, "train_seconds": number / 4}
        found.append({"event": "train", **place, "loss_nats": 0.0})
        found.append({"event": "evaluation", **place, "yardstick": {"loss_nats": loss}})
    return found


def test_linear_between_the_evaluations_around_it() -> None:
    found = reach.measure(RUN, records([8.0, 6.0, 5.0, 4.5]), [5.25, 6.0])
    assert found["values"] == {
        "reach.5.25.tokens": 175.0, "reach.5.25.flops": 7 * 175.0, "reach.5.25.censored": 0.0,
        "reach.6.tokens": 100.0, "reach.6.flops": 700.0, "reach.6.censored": 0.0,
    }  # fmt: skip
    assert found["seconds"] == {"reach.5.25.seconds": 0.4375, "reach.6.seconds": 0.25}


def test_what_is_passed_at_the_first_evaluation_was_reached_nobody_knows_when() -> None:
    found = reach.measure(RUN, records([8.0, 6.0, 5.0, 4.5]), [8.0, 9.0])
    assert found == {"values": {"reach.8.censored": 1.0, "reach.9.censored": 1.0}, "seconds": {}}
    assert not reach.cost(reach.trunk(RUN, records([5.0, 7.0, 5.0])), 6.0), "nor when it is passed again"


def test_what_is_reached_only_while_the_rate_decays_is_not_reached() -> None:
    losses = [8.0, 7.0, 6.5, 6.2, 6.0, 4.0]
    found = reach.measure(RUN, records(losses), [6.0, 5.0])
    assert found["values"]["reach.6.tokens"] == 400.0, "the decay begins behind it"
    assert found["values"]["reach.5.censored"] == 1.0
    assert not {"reach.5.tokens", "reach.5.flops"} & set(found["values"])
    assert "reach.5.seconds" not in found["seconds"]
    constant = RUN.model_copy(update={"optimizer": config.Optimizer()})
    assert reach.measure(constant, records(losses), [5.0])["values"]["reach.5.tokens"] == 450.0


def test_a_run_without_the_yardstick_reaches_nothing() -> None:
    rows = [{"event": "evaluation", "tokens": 0, "yardstick": {}}]
    assert reach.measure(RUN, rows, [4.0])["values"] == {"reach.4.censored": 1.0}


@given(st.lists(st.floats(2.0, 9.0), min_size=2, max_size=5), st.floats(2.0, 9.0))
def test_the_first_crossing_counts_and_a_lower_loss_costs_no_less(losses: list[float], level: float) -> None:
    evaluations = reach.trunk(RUN, records(losses))
    found, easier = reach.cost(evaluations, level), reach.cost(evaluations, level + 0.5)
    assert bool(found) == (min(losses) <= level < losses[0])
    if found:
        after = next(number for number, loss in enumerate(losses) if loss <= level)
        assert max(0, 100 * (after - 1)) <= found["tokens"] <= 100 * after
        assert found["flops"] == pytest.approx(7 * found["tokens"])
        assert not easier or easier["tokens"] <= found["tokens"] + 1e-6


@given(st.integers(1, 60), st.integers(1, 900), st.integers(0, 400))
def test_what_is_refused_before_training_is_what_no_loss_could_change(
    steps: int, every: int, decay: int
) -> None:
    """An evaluation on the trunk behind the first: without one, any level is censored in any run."""
    optimizer = {"decay_tokens": min(decay, 8 * steps)}
    run = config.Run.model_validate(
        {"sequence_length": 8, "batch_size": 1, "budget_tokens": 8 * steps, "optimizer": optimizer,
         "curve": {"every_tokens": every}}
    )  # fmt: skip
    interval = max(1, every // 8)
    done = [step for step in range(steps + 1) if step % interval == 0 or step == steps]
    rows = [
        {"event": "evaluation", "tokens": 8 * step, "flops": step, "train_seconds": step,
         "yardstick": {"loss_nats": 9.0 - step / 100}}
        for step in done
    ]  # fmt: skip
    at_best = reach.measure(run, rows, [8.995])["values"]["reach.8.995.censored"]
    assert (reach.problem(run) is not None) == bool(at_best)
