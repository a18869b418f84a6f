"""The multi-bootstrap against its exact variance and a plain loop, what it refuses, and how often it covers."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm
from synthetic_results import EXPERIMENT, MEASURE_FILES, Synthetic, write_json

from analysis import collect, contrasts, resampling, study
from analysis.resampling import Examples
from mlm.errors import Damaged

Make = Callable[..., Synthetic]


def made_up(n: int = 8, count: int = 60) -> Examples:
    source = np.random.default_rng(4)
    of = source.integers(1, 6, count).astype(float)
    arm, against = (source.binomial(of.astype(int), p, (n, count)).astype(float) for p in (0.7, 0.6))
    return Examples(arm, against, of)


def test_draws_have_the_mean_and_the_variance_of_seeds_and_examples_drawn_with_replacement() -> None:
    arm, against, _ = made_up()
    d = np.minimum(arm, 1) - np.minimum(against, 1)
    n, count = d.shape
    drawn = resampling.draws(Examples(np.minimum(arm, 1), np.minimum(against, 1), np.ones(count)), 20_000)
    # E[u_s u_t] of n draws out of n is 1 - 1/n, and 1 more where s = t; the same of the examples.
    seeds, examples = (np.full((k, k), 1 - 1 / k) + np.eye(k) for k in (n, count))
    second = np.einsum("st,ef,se,tf->", seeds, examples, d, d, optimize=True) / (n * count) ** 2
    assert drawn.mean() == pytest.approx(d.mean(), abs=4 * drawn.std() / 20_000**0.5)
    assert drawn.var() == pytest.approx(second - d.mean() ** 2, rel=0.05)


def test_quantiles_are_those_of_a_plain_loop() -> None:
    found = made_up()
    n, count = found.arm.shape
    source, looped = np.random.default_rng(9), []
    for _ in range(1000):
        seeds, chosen = source.integers(n, size=n), source.integers(count, size=count)
        total = sum(found.of[e] for e in chosen)
        accuracies = [[sum(run[s][e] for e in chosen) / total for s in seeds] for run in map(list, found[:2])]
        looped.append(np.mean(accuracies[0]) - np.mean(accuracies[1]))
    drawn = resampling.draws(found, 20_000)
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert np.quantile(looped, share) == pytest.approx(np.quantile(drawn, share), abs=0.15 * drawn.std())


def test_the_same_pairs_have_the_same_interval_wherever_they_stand() -> None:
    assert resampling.interval(made_up()) == resampling.interval(made_up())


def test_what_does_not_vary_leaves_no_width() -> None:
    n, count = 8, 50
    same = Examples(np.ones((n, count)), np.zeros((n, count)), np.full(count, 2.0))
    assert resampling.interval(same) == (0.5, 0.5, count)
    by_seed = np.arange(n, dtype=float)[:, None] * np.ones((n, count))
    found = resampling.interval(Examples(by_seed, np.zeros((n, count)), np.ones(count)))
    assert found is not None and found.low > 0 and found.high < n - 1  # of seeds alone, inside their range


def test_few_seeds_have_no_interval() -> None:
    assert resampling.interval(made_up(5)) is None
    assert resampling.interval(made_up(6)) is not None


def study_of(n: int, count: int, seeds: float, examples: float, source: np.random.Generator) -> Examples:
    """Right or wrong by a probit of the arm, its seed, the example, and how hard the arm finds it."""
    shared = source.normal(0, 0.2, (n, 1)) + source.normal(0, 1, count)

    def arm(level: float) -> NDArray[np.float64]:
        own = source.normal(0, seeds, (n, 1)) + source.normal(0, examples, count)
        return (source.random((n, count)) < norm.cdf(level + shared + own)).astype(float)

    return Examples(arm(0.8), arm(0.6), np.ones(count))


@pytest.mark.parametrize(("seeds", "examples"), [(0.4, 0.2), (0.3, 0.5)])
def test_coverage_by_simulation(seeds: float, examples: float) -> None:
    source = np.random.default_rng(12)
    spread = np.sqrt(1 + 0.2**2 + 1 + seeds**2 + examples**2)
    truth = norm.cdf(0.8 / spread) - norm.cdf(0.6 / spread)
    covered = []
    for _ in range(400):
        found = resampling.interval(study_of(8, 150, seeds, examples, source), number=1000)
        assert found is not None
        covered.append(found.low <= truth <= found.high)
    assert 0.93 <= np.mean(covered) <= 0.995


def test_it_stands_beside_the_interval_over_seeds(analysed: Make) -> None:
    made = analysed()
    for one in contrasts.load(made.scale, EXPERIMENT):
        assert one.examples == 400
        assert one.difference is not None and one.two_level_low is not None and one.two_level_high is not None
        assert one.two_level_low < one.difference < one.two_level_high
    assert "two_level_low,two_level_high,examples" in made.table("contrasts.csv").read_text().splitlines()[0]


def altered(made: Synthetic, arm: str, measure: str, change: Callable[[dict[str, object]], object]) -> None:
    path = made.folder(arm, 0) / MEASURE_FILES[measure]
    content = json.loads(path.read_text())
    change(content)
    write_json(path, content)


def test_examples_that_are_not_those_of_the_accuracy_are_refused(make: Make) -> None:
    made = make(effects={"80-10-10": 0.0, "100-0-0": -0.03})
    planned = study.load(made.scale)
    collect.collect(planned, EXPERIMENT)
    altered(made, "100-0-0", "probe", lambda c: c["examples"]["probe.accuracy"].update(right="1 2", of="3 4"))  # type: ignore[index]
    with pytest.raises(Damaged, match=r"examples.probe.accuracy: do not come to its accuracy"):
        contrasts.write(planned, EXPERIMENT)
    altered(made, "100-0-0", "probe", lambda c: c.pop("examples"))
    with pytest.raises(Damaged, match="which other runs have"):
        contrasts.write(planned, EXPERIMENT)


def test_other_examples_in_one_of_the_runs_are_no_pairs(make: Make) -> None:
    made = make(effects={"80-10-10": 0.0, "100-0-0": -0.03})

    def one_sentence(content: dict[str, dict[str, object]]) -> None:
        content["examples"]["probe.accuracy"] = {"right": "3", "of": "4"}
        content["values"]["probe.accuracy"] = 0.75

    altered(made, "100-0-0", "probe", one_sentence)  # type: ignore[arg-type]
    planned = study.load(made.scale)
    collect.collect(planned, EXPERIMENT)
    contrasts.write(planned, EXPERIMENT)
    found = contrasts.load(made.scale, EXPERIMENT)[0]
    assert found.low is not None and (found.examples, found.two_level_low) == (None, None)


def test_an_example_of_nothing_is_none(make: Make) -> None:
    """A sentence without a word that counts: drawn alone, it would have no accuracy."""
    made = make(effects={"80-10-10": 0.0, "100-0-0": -0.03})
    planned = study.load(made.scale)
    collect.collect(planned, EXPERIMENT)
    contrasts.write(planned, EXPERIMENT)
    before = contrasts.load(made.scale, EXPERIMENT)[0]

    def longer(content: dict[str, dict[str, dict[str, str]]]) -> None:
        for told in content["examples"].values():
            told.update(right=told["right"] + " 0", of=told["of"] + " 0")

    for arm in ("80-10-10", "100-0-0"):
        for seed in made.seeds:
            path = made.folder(arm, seed) / MEASURE_FILES["probe"]
            content = json.loads(path.read_text())
            longer(content)
            write_json(path, content)
    contrasts.write(planned, EXPERIMENT)
    after = contrasts.load(made.scale, EXPERIMENT)[0]
    assert (after.examples, after.two_level_low) == (before.examples, before.two_level_low)
