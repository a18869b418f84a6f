"""What an experiment file may say beside its arms: measures, what varies, trials of rates, what it extends."""

from collections.abc import Callable
from typing import Any

import pytest

from mlm import experiment, study
from tests.mlm.places import EXPERIMENT, TRIAL_FILE, digests, refusal, setting

Trial = Callable[..., study.Study]


def test_an_experiment_is_measured_as_it_says(trial: Trial) -> None:
    """Its own measures are those of the scale, changed; a run that two experiments share has both's."""
    own = {"probe": None, "evaluation": {"sequences": 9}, "pairs": {"per_kind": 20}}
    other = {**EXPERIMENT, "measures": own, "primary_measure": "test.yardstick.loss_nats"}
    found = trial(other=other)
    files = {name: {one.name: one.file for one in taken} for name, taken in found.measures.items()}
    assert set(files["trial"]) == {"evaluation", "probe"}
    assert set(files["other"]) == {"evaluation", "pairs"}
    assert files["trial"]["evaluation"] != files["other"]["evaluation"]
    # Every run is shared. What the scale's own experiment asks for is taken apart from what the other does.
    apart = [(sorted(one.file for one in taken), set(runs)) for taken, runs in found.measured()]
    assert sorted(apart, key=str) == sorted(
        ((sorted(files[name].values()), set(found.runs)) for name in ("trial", "other")), key=str
    )
    assert found.record()["experiments"]["other"]["measure_files"] == files["other"]
    both = setting("experiments", ["trial", "other"])
    named = trial(scale=both, other=other)
    jobs = [taken for taken, _ in named.measured()]
    assert [sorted(one.name for one in taken) for taken in jobs] == [
        ["evaluation", "pairs", "probe"],
        ["evaluation"],
    ], "a job takes a name once"
    assert {one.file for taken in jobs for one in taken} == {
        file for of in files.values() for file in of.values()
    }
    assert all(set(runs) == set(named.runs) for _, runs in named.measured())
    on_the_way = setting("measures/over_training", ["probe"])
    kept = setting("base/checkpoints_at", {"first": 64, "number": 2})
    found = trial(scale=on_the_way, experiment=kept, other=other)
    assert (found.stated["trial"].over_training, found.stated["other"].over_training) == (["probe"], [])
    wrong = refusal(trial, experiment=setting("measures", {"probe": {"train_sentences": 3}}))
    assert wrong.startswith(TRIAL_FILE + "measures.probe.train_sentences")


def test_arms_may_differ_in_what_the_question_is_about_alone(trial: Trial) -> None:
    trial(experiment=setting("varies", ["masking.split", "encoder"]))
    said = refusal(trial, experiment=setting("varies", ["masking.split"]))
    assert "arms.bert: differs from 80-10-10 in encoder." in said
    assert "which `varies:` does not name" in said
    said = refusal(trial, experiment=setting("varies", ["masking.splits", "encoder", "masking.split"]))
    assert "varies: no key of a run is called 'masking.splits'" in said


@pytest.mark.parametrize("seeds", [23, list(range(23))])
def test_more_seeds_than_the_exact_test_takes_are_refused_before_the_runs(trial: Trial, seeds: Any) -> None:
    assert "seeds: is" in (said := refusal(trial, experiment=setting("seeds", seeds)))
    assert "1 to 22" in said
    assert "seeds_at_least" in refusal(trial, scale=setting("seeds_at_least", 23))


TRIALS = {"learning_rates": [1e-3, 2e-3, 4e-3], "seeds": [7, 8, 9]}


def test_learning_rates_are_tried_on_seeds_of_their_own(trial: Trial) -> None:
    before = trial()
    found = trial(experiment=setting("tune", TRIALS))
    assert digests(found).items() >= digests(before).items()  # the experiment's runs are as they were
    cells = [cell for cell in found.cells if cell.experiment == "trial-tune"]
    assert len(cells) == len(EXPERIMENT["arms"]) * 3 * 3
    for cell in cells:
        arm, rate = found.record()["experiments"]["trial-tune"]["tried"][cell.arm]
        assert cell.arm == f"{arm}.lr-{rate:g}"
        tried = found.runs[cell.digest].config
        own = found.runs[digests(before)[arm, 0]].config
        assert cell.seed == tried.seed
        assert tried.optimizer == own.optimizer.model_copy(update={"learning_rate": rate})
        assert tried.model_copy(update={"seed": 0, "optimizer": own.optimizer}) == own
    assert found.contrast_rows("trial-tune") == []
    used = setting("tune", {**TRIALS, "seeds": [1, 7]})
    assert "tune.seeds: 1 is a seed of the contrasts too" in refusal(trial, experiment=used)
    few = setting("tune", {**TRIALS, "learning_rates": [1e-3]})
    assert TRIAL_FILE + "tune.learning_rates" in refusal(trial, experiment=few)


@pytest.mark.parametrize(
    ("by", "taken"),
    [
        ("validation.own.loss_nats", set()),
        ("probe.accuracy", {"probe"}),
        ("bits.per_byte", {"bits_per_byte"}),
        ("corruption.bert.loss_nats", {"corruptions"}),
        ("trec.accuracy", {"tasks", "plugins"}),  # a name of the user's
    ],
)
def test_rates_are_chosen_by_what_they_are_told_and_nothing_else_is_measured(by: str, taken: set[str]) -> None:
    tune = experiment.Tune.model_validate({**TRIALS, "measure": by})
    told = experiment.trials(experiment.Experiment.model_validate(EXPERIMENT), tune).measures
    asked = {
        section for section in experiment.Measures.model_fields if told.get(section, "as the scale") is not None
    }
    assert asked == {"evaluation", "reach", "over_training", *taken} and told["over_training"] == []


def test_rates_may_be_chosen_by_features(trial: Trial) -> None:
    found = trial(experiment=setting("tune", {**TRIALS, "measure": "probe.accuracy"}))
    stated = found.record()["experiments"]["trial-tune"]
    assert stated["primary_measure"] == "probe.accuracy" and "probe" in stated["measure_files"]


def test_a_pilot_has_the_arms_that_are_compared_on_seeds_of_its_own(trial: Trial) -> None:
    before = trial()
    asked = setting("pilot", [7, 8, 9, 10, 11])
    for cut in (9, 2):  # a scale that takes fewer seeds leaves the pilot whole: of fewer there is none
        found = trial(setting("seeds_at_most", cut), asked)
        assert digests(found).items() >= digests(before).items()
        pilot = digests(found, "trial-pilot")
        assert {arm for arm, _ in pilot} == {"80-10-10", "100-0-0"}  # not `bert`, of which no contrast is
        assert {seed for _, seed in pilot} == {7, 8, 9, 10, 11}
        for (arm, seed), digest in pilot.items():
            own = found.runs[digests(before)[arm, 0]].config
            assert found.runs[digest].config == own.model_copy(update={"seed": seed})
    assert found.pilots == ["trial-pilot"] and not found.trials
    assert found.contrast_rows("trial-pilot") == []

    def by_corruption(content: dict[str, Any]) -> None:
        content |= {"pilot": [7, 8, 9, 10, 11], "measures": {"corruptions": {"sequences": 8}}}
        content["contrasts"]["primary"]["measure"] = "corruption.bert.loss_nats"

    assert {arm for arm, _ in digests(trial(experiment=by_corruption), "trial-pilot")} == {*EXPERIMENT["arms"]}


@pytest.mark.parametrize(
    ("pilot", "tune", "said"),
    [
        ([2, 3, 4, 5], None, "pilot: is [2, 3, 4, 5]; a spread needs 5 seeds or more: give a list of so many"),
        (5, None, "pilot: is 5; a spread needs 5 seeds or more"),
        ([2, 3, 4, 5, 5], None, "pilot: is [2, 3, 4, 5, 5]; give a number n of seeds"),
        ([1, 2, 3, 4, 5], None, "pilot: 1 is a seed of the contrasts too, and the spread is to be"),
        ([4, 5, 6, 7, 8], TRIALS | {"seeds": [8]}, "pilot: 8 is a seed of `tune` too"),
    ],
)
def test_a_pilot_of_too_few_seeds_or_of_seeds_in_use_is_refused(
    pilot: Any, tune: dict[str, Any] | None, said: str, trial: Trial
) -> None:
    def stated(content: dict[str, Any]) -> None:
        content |= {"pilot": pilot, "tune": tune}

    assert TRIAL_FILE + said in refusal(trial, experiment=stated)


def test_a_scale_with_more_seeds_may_come_upon_those_of_the_pilot(trial: Trial) -> None:
    asked = setting("pilot", [9, 10, 11, 12, 13])
    assert trial(experiment=asked).pilots
    said = refusal(trial, scale=setting("seeds_at_least", 12), experiment=asked)
    assert "pilot: 9 is a seed of the contrasts too" in said


def test_losses_on_different_windows_are_not_compared(trial: Trial) -> None:
    def longer(content: dict[str, Any]) -> None:
        content["arms"]["bert"]["sequence_length"] = 8
        content["contrasts"]["secondary"] = [{"arm": "bert", "measure": "test.yardstick.loss_nats"}]

    assert "is evaluated at 8 and at" in refusal(trial, experiment=longer)


@pytest.mark.parametrize(
    ("measure", "same"),
    [
        ("test.own.loss_nats", False),
        ("validation.own.mask.accuracy", False),
        ("reach.unigram-0.5.tokens", False),
        ("radius.1.loss_nats", False),
        ("corruption.bert.loss_nats", False),
        ("test.yardstick.loss_nats", True),
        ("reach.5.6.tokens", True),
        ("probe.accuracy", True),
    ],
)
def test_losses_on_text_that_is_cut_otherwise_are_not_compared(measure: str, same: bool, trial: Trial) -> None:
    def cut(content: dict[str, Any], stretch: int = 4) -> None:
        content["measures"] = {
            "reach": {"loss_nats": [5.6], "below_unigram_nats": [0.5]},
            "radius": {"distances": [1], "sequences": 8},
            "corruptions": {"sequences": 8},
        }
        content["arms"]["bert"]["stretch"] = stretch
        content["contrasts"]["secondary"] = [{"arm": "bert", "measure": measure}]

    if same:
        assert trial(experiment=cut).cells
    else:
        said = refusal(trial, experiment=cut)
        assert f"contrasts.secondary.0: {measure} is evaluated on stretches of 4 and of 16 tokens; give" in said
    # One stretch a window is the text as it runs.
    assert trial(experiment=lambda content: cut(content, 16)).cells


@pytest.mark.parametrize(
    ("masking", "same"),
    [
        ({"rate": 0.3}, False),
        ({"split": {"mask": 1.0}}, False),
        ({"unit": "word"}, False),
        ({"strategy": "mlm.masking:corrupt"}, False),
        ({"predicted": 0.5}, True),
        # Evaluated is what a run ends with.
        ({"rate": 0.3, "change": {"shape": "linear", "rate": 0.15}}, True),
        ({"change": {"shape": "linear", "rate": 0.3}}, False),
    ],
)
def test_losses_under_different_corruptions_are_not_compared(
    masking: dict[str, Any], same: bool, trial: Trial
) -> None:
    def corrupted(content: dict[str, Any], measure: str = "test.own.loss_nats") -> None:
        content["measures"] = {"corruptions": {"sequences": 8, "arms": {"own": {"rate": 0.2}}}}
        content["arms"]["bert"]["masking"] = masking
        content["contrasts"]["secondary"] = [{"arm": "bert", "measure": measure}]

    if same:
        assert trial(experiment=corrupted).cells
    else:
        said = refusal(trial, experiment=corrupted)
        assert "contrasts.secondary.0: test.own.loss_nats is under each arm's own corruption" in said
    for remedy in ("test.yardstick.loss_nats", "corruption.80-10-10.loss_nats", "corruption.own.loss_nats"):
        assert trial(experiment=lambda content, remedy=remedy: corrupted(content, remedy)).cells


WINDOWS, PAIRS = "windows of text", "sentence pairs of nsp"


@pytest.mark.parametrize(
    ("objective", "measure", "said"),
    [
        ("mlm+nsp", "test.own.loss_nats", f"on {PAIRS} and on {WINDOWS}; compare on the yardstick"),
        ("mlm+nsp", "validation.own.mask.accuracy", f"on {PAIRS} and on {WINDOWS}; compare on the yardstick"),
        ("mlm+nsp", "reach.unigram-0.5.tokens", f"on {PAIRS} and on {WINDOWS}; compare on the yardstick"),
        ("mlm+nsp", "test.yardstick.loss_nats", None),
        ("mlm+nsp", "reach.5.6.tokens", None),
        # Objectives differ in what their losses are of, but a level below word frequencies is one for each.
        ("causal", "test.own.loss_nats", "under each arm's own corruption"),
        ("causal", "reach.unigram-0.5.tokens", None),
    ],
)
def test_losses_on_what_other_objectives_read_are_not_compared(
    objective: str, measure: str, said: str | None, trial: Trial
) -> None:
    def judged(content: dict[str, Any]) -> None:
        content["measures"] = {"reach": {"loss_nats": [5.6], "below_unigram_nats": [0.5]}}
        content["varies"] = None
        content["arms"]["bert"] = {"objective": objective}
        content["contrasts"]["secondary"] = [{"arm": "bert", "measure": measure}]

    if said is None:
        assert trial(experiment=judged).cells
    else:
        assert f"contrasts.secondary.0: {measure} is {said}" in refusal(trial, experiment=judged)


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ("mlm+sop", f"on {PAIRS} and on sentence pairs of sop; leave it out"),
        ("mlm", f"on {PAIRS} and on {WINDOWS}; leave it out"),
        ("nsp", "under each arm's own corruption, and these arms have different ones; compare arms that"),
    ],
)
def test_judgements_of_other_pairs_are_not_compared(others: str, said: str, trial: Trial) -> None:
    measure = "test.own.relation.accuracy"

    def judged(content: dict[str, Any]) -> None:
        content["varies"] = None
        content["arms"] |= {"bert": {"objective": "mlm+nsp"}, "other": {"objective": others}}
        content["contrasts"]["secondary"] = [{"arm": "bert", "against": "other", "measure": measure}]

    assert f"contrasts.secondary.0: {measure} is {said}" in refusal(trial, experiment=judged)


@pytest.mark.parametrize(
    ("measure", "said"),
    [
        ("test.yardstick.loss_nats", "is counted in pieces of different vocabularies"),
        ("pairs.accuracy", "is of pairs that each vocabulary has of its own"),
    ],
)
def test_what_depends_on_the_pieces_is_not_compared_across_vocabularies(
    measure: str, said: str, trial: Trial
) -> None:
    def other_pieces(content: dict[str, Any]) -> None:
        content["measures"] = {"pairs": {"per_kind": 20}}
        content["arms"]["bert"]["vocabulary"] = {"kind": "bpe", "size": 300}
        content["contrasts"]["secondary"] = [{"arm": "bert", "measure": measure}]

    assert f"{measure} {said}" in refusal(trial, experiment=other_pieces)


def test_a_file_that_extends_another_is_the_other_but_for_what_it_says(trial: Trial) -> None:
    first = {**EXPERIMENT, "base": {"masking": {"rate": 0.3}}, "measures": {"evaluation": {"sequences": 9}}}
    own = {"extends": "trial", "title": "Longer", "base": {"budget_tokens": 8192}, "tune": None}
    found = trial(experiment=lambda content: content.update(first), other=own)
    assert not found.left_out
    mine, theirs = found.experiments["trial"], found.experiments["other"]
    assert (theirs.title, theirs.question) == ("Longer", mine.question)
    assert theirs.base == {"masking": {"rate": 0.3}, "budget_tokens": 8192}
    assert theirs.measures == mine.measures and theirs.contrasts == mine.contrasts
    before, after = digests(found), digests(found, "other")
    assert before.keys() == after.keys()
    for cell, digest in after.items():
        run, longer = found.runs[before[cell]].config, found.runs[digest].config
        assert longer == run.model_copy(update={"budget_tokens": 8192}) != run


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "nothing",
            "experiments/other.yaml: extends: no other experiment is called 'nothing'; there are: trial",
        ),
        ("other", "experiments/other.yaml: extends: no other experiment is called 'other'"),
    ],
)
def test_what_cannot_be_extended_is_refused(trial: Trial, name: str, said: str) -> None:
    assert said in refusal(trial, other={"extends": name})


def test_what_is_extended_says_all_itself(trial: Trial) -> None:
    said = refusal(trial, other={"extends": "trial"}, third={"extends": "other"})
    assert said == "experiments/third.yaml: extends: other extends trial itself; extend that one"
