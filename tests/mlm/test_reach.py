"""The cost of a loss: interpolated between evaluations, on the trunk alone, missing where it is not reached."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from mlm import checks, config, measured, measures, reach
from mlm.experiment import Measures, Reach

RUN = config.Run.model_validate(
    {"sequence_length": 8, "batch_size": 1, "budget_tokens": 800, "optimizer": {"decay_tokens": 400}}
)


def yardstick(*nats: float) -> list[reach.Level]:
    return list(reach.levels(Reach(loss_nats=list(nats)), 0.0))


def below(entropy: float, *nats: float) -> list[reach.Level]:
    return list(reach.levels(Reach(below_unigram_nats=list(nats)), entropy))


def records(losses: list[float], every: int = 100, own: list[float] | None = None) -> list[dict[str, Any]]:
    """Evaluations every so many tokens, with a training record before each."""
    found = []
    for number, (loss, other) in enumerate(zip(losses, own or losses, strict=True)):
        place = {"tokens": every * number, "flops": 7 * every * number, "train_seconds": number / 4}
        found.append({"event": "train", **place, "loss_nats": 0.0})
        judged = {"yardstick": {"loss_nats": loss}, "own": {"loss_nats": other}}
        found.append({"event": "evaluation", **place, **judged})
    return found


def test_linear_between_the_evaluations_around_it() -> None:
    found = reach.measure(RUN, records([8.0, 6.0, 5.0, 4.5]), yardstick(5.25, 6.0))
    assert found["values"] == {
        "reach.5.25.tokens": 175.0, "reach.5.25.flops": 7 * 175.0, "reach.5.25.censored": 0.0,
        "reach.6.tokens": 100.0, "reach.6.flops": 700.0, "reach.6.censored": 0.0,
    }  # fmt: skip
    assert found["seconds"] == {"reach.5.25.seconds": 0.4375, "reach.6.seconds": 0.25}


def test_what_is_passed_at_the_first_evaluation_was_reached_nobody_knows_when() -> None:
    found = reach.measure(RUN, records([8.0, 6.0, 5.0, 4.5]), yardstick(8.0, 9.0))
    assert found == {"values": {"reach.8.censored": 1.0, "reach.9.censored": 1.0}, "seconds": {}}
    assert not reach.cost(reach.trunk(RUN, records([5.0, 7.0, 5.0])), 6.0), "nor when it is passed again"


def test_what_is_reached_only_while_the_rate_decays_is_not_reached() -> None:
    losses = [8.0, 7.0, 6.5, 6.2, 6.0, 4.0]
    found = reach.measure(RUN, records(losses), yardstick(6.0, 5.0))
    assert found["values"]["reach.6.tokens"] == 400.0, "the decay begins behind it"
    assert found["values"]["reach.5.censored"] == 1.0
    assert not {"reach.5.tokens", "reach.5.flops"} & set(found["values"])
    assert "reach.5.seconds" not in found["seconds"]
    constant = RUN.model_copy(update={"optimizer": config.Optimizer()})
    assert reach.measure(constant, records(losses), yardstick(5.0))["values"]["reach.5.tokens"] == 450.0


def test_a_run_without_the_yardstick_reaches_nothing() -> None:
    rows = [{"event": "evaluation", "tokens": 0, "yardstick": {}}]
    assert reach.measure(RUN, rows, yardstick(4.0))["values"] == {"reach.4.censored": 1.0}


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
         "yardstick": {"loss_nats": 9.0 - step / 100}, "own": {"loss_nats": 9.0 - step / 100}}
        for step in done
    ]  # fmt: skip
    at_best = reach.measure(run, rows, yardstick(8.995))["values"]["reach.8.995.censored"]
    assert (reach.problem(run) is not None) == bool(at_best)
    own = reach.measure(run, rows, below(9.0, 0.005))["values"]
    assert own["reach.unigram-0.005.censored"] == at_best


# So far below the unigram entropy


@given(st.lists(st.integers(0, 11), min_size=1, max_size=40).filter(lambda tokens: max(tokens) > 4))
def test_the_entropy_is_that_of_the_ordinary_tokens(tokens: list[int]) -> None:
    ordinary = np.bincount([token for token in tokens if token >= config.N_SPECIAL])
    found = reach.unigram_entropy(np.array(tokens, np.uint16), 12)
    assert found == pytest.approx(entropy(ordinary[ordinary > 0]), abs=1e-12)
    assert found <= math.log(12 - config.N_SPECIAL) + 1e-12


def test_long_texts_are_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = np.arange(1000) % 90
    whole = reach.unigram_entropy(tokens, 90)
    monkeypatch.setattr(reach, "COUNTED_TOKENS", 64)
    assert reach.unigram_entropy(tokens, 90) == whole


def test_the_runs_own_loss_counts_and_not_the_yardstick() -> None:
    rows = records([9.0, 9.0, 9.0, 9.0], own=[8.0, 6.0, 5.0, 4.5])
    found = reach.measure(RUN, rows, below(6.0, 0.75, 3))
    assert found["values"] == {
        "reach.unigram-0.75.tokens": 175.0, "reach.unigram-0.75.flops": 7 * 175.0,
        "reach.unigram-0.75.censored": 0.0, "reach.unigram-0.75.begun": 0.0,
        "reach.unigram-0.75.observed_tokens": 300.0, "reach.unigram-3.censored": 1.0,
        "reach.unigram-3.begun": 0.0, "reach.unigram-3.observed_tokens": 300.0,
    }  # fmt: skip
    assert found["seconds"] == {"reach.unigram-0.75.seconds": 0.4375}
    both = [*yardstick(8.9), *below(6.0, 0.75)]
    assert reach.measure(RUN, rows, both)["values"]["reach.8.9.censored"] == 1.0


def test_what_began_below_is_censored_on_the_left_and_what_never_left_on_the_right() -> None:
    for losses, begun in (([5.5, 5.0, 4.0], 1.0), ([6.0, 5.9, 5.8], 0.0)):
        values = reach.measure(RUN, records(losses), below(6.0, 0.5))["values"]
        name = "reach.unigram-0.5"
        assert values == {f"{name}.censored": 1.0, f"{name}.begun": begun, f"{name}.observed_tokens": 200.0}


def test_a_run_is_observed_until_its_rate_decays() -> None:
    losses = [8.0, 7.0, 6.5, 6.2, 6.0, 4.0]
    values = reach.measure(RUN, records(losses), below(6.0, 0.5))["values"]
    assert (values["reach.unigram-0.5.censored"], values["reach.unigram-0.5.observed_tokens"]) == (1.0, 400.0)
    constant = RUN.model_copy(update={"optimizer": config.Optimizer()})
    values = reach.measure(constant, records(losses), below(6.0, 0.5))["values"]
    assert values["reach.unigram-0.5.tokens"] == 425.0
    assert values["reach.unigram-0.5.observed_tokens"] == 500.0


def test_all_values_have_the_names_that_were_planned() -> None:
    asked = Reach(loss_nats=[4.4], below_unigram_nats=[0.5, 1])
    found = reach.measure(RUN, records([8.0, 4.0]), list(reach.levels(asked, 6.0)))["values"]
    names = measured.names(RUN, Measures(reach=asked), ())
    assert set(found) == set(names) and len(names) == len(set(names)) == 13
    assert {measures.better(name) for name in names} == {"lower"}


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({}, "no loss is given; give `loss_nats` or `below_unigram_nats`"),
        ({"below_unigram_nats": []}, "at least 1 item"),
        ({"below_unigram_nats": [0]}, "greater than 0"),
        ({"below_unigram_nats": [0.5, 0.5000000001]}, "below_unigram_nats: .* have the same name twice"),
        ({"loss_nats": [4.4, 4.4000001], "below_unigram_nats": [0.5]}, "loss_nats: .* the same name twice"),
    ],
)
def test_impossible_settings_are_refused(stated: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Reach.model_validate(stated)


def test_what_no_run_could_reach_is_refused_with_its_arm() -> None:
    file = Path("experiments/trial.yaml")

    def refused(nats: float, **stated: Any) -> list[str]:
        asked = Measures.model_validate({"reach": {"below_unigram_nats": [0.5, nats]}})
        return list(checks.reachable(file, {"arm": config.Run.model_validate(stated)}, asked))

    (said,) = refused(7.7)
    assert said.startswith(f"{file}: arms.arm: for measures.reach")
    assert "7.7 nats below the unigram entropy is below 0: that of 2043 ordinary pieces is at most 7.62" in said
    assert not refused(7.6)
    assert refused(7.6, vocabulary={"kind": "unigram", "size": 1024})
    (said,) = refused(1.0, objective="nsp")
    assert "objective nsp predicts no tokens" in said and not refused(1.0, objective="mlm+nsp")
