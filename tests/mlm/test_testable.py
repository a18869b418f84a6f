"""Seeds that are too few are told of before the runs, with how many would do."""

from collections.abc import Callable

from analysis import testable, verdicts
from analysis.signflip import SignFlip
from mlm import study
from tests.mlm.places import EXPERIMENT, setting

Trial = Callable[..., study.Study]
EVIDENCE = setting("evidence", True)


def told(trial: Trial, seeds: int, secondary: int) -> list[str]:
    more = [{"arm": "bert", "measure": name} for name in ("test.own.loss_nats", "test.own.accuracy",
            "validation.own.loss_nats", "validation.own.accuracy")]  # fmt: skip

    def change(content: dict) -> None:
        content["seeds"] = seeds
        content["contrasts"] = {"primary": EXPERIMENT["contrasts"]["primary"], "secondary": more[:secondary]}

    return list(testable.problems(trial(EVIDENCE, change)))


def test_the_number_of_seeds_that_is_named_is_enough_and_one_less_is_not(trial: Trial) -> None:
    assert told(trial, 9, 4) == []
    said, _ = told(trial, 6, 4)
    assert said == (
        "experiments/trial.yaml: seeds: 6 cannot decide 4 secondary contrasts at the level 0.05, which will be "
        "descriptive; give 8 or more"
    )
    primary, secondary = told(trial, 3, 1)
    assert "3 cannot decide 1 primary contrast at" in primary and primary.endswith("give 6 or more")
    assert "1 secondary contrast at" in secondary
    for m in range(1, 5):
        enough = next(n for n in range(1, 20) if not any(verdicts.out_of_reach([n] * m, 2)))
        assert (m * 2 / 2**enough < 0.05) and (m * 2 / 2 ** (enough - 1) >= 0.05)


def test_a_family_that_is_decided_by_pairs_that_all_agree_and_by_none_else_is_told_of(trial: Trial) -> None:
    (said,) = told(trial, 8, 4)
    assert said == (
        "experiments: trial: seeds: with 8, no secondary contrast is decided unless all 8 pairs of one agree "
        "in sign; with 9 one may differ"
    )
    assert told(trial, 8, 3) == []
    assert (
        "with 6, no primary contrast is decided unless all 6 pairs of one agree in sign"
        in told(trial, 6, 4)[-1]
    )
    differing = [SignFlip([-0.01, *range(1, n)]).p_two_sided() for n in (8, 9)]  # one sign, of the smallest
    assert [verdicts.holm([p, 1.0, 1.0, 1.0])[0] < verdicts.LEVEL for p in differing] == [False, True]


def test_primaries_that_no_seeds_can_decide_together_are_told_of(trial: Trial) -> None:
    """As many experiments as make 2/2⁶ too large after the correction: two."""
    alone, both = setting("experiments", ["trial"]), setting("experiments", ["trial", "other"])

    def scale(change: Callable[[dict], None]) -> Callable[[dict], None]:
        return lambda content: (EVIDENCE(content), change(content))[1]

    six = setting("seeds", 6)
    other = {**EXPERIMENT, "seeds": 6}
    found = [
        [said for said in testable.problems(trial(scale(one), six, other=other)) if "of them" in said]
        for one in (alone, both)
    ]
    assert found[0] == []
    assert found[1] == [
        "experiments/scales/test.yaml: experiments: corrected over the 2 of them, no primary contrast can "
        "reach the level 0.05; with 7 seeds one can"
    ]


def test_arms_that_differ_in_several_things_are_told_of_unless_the_file_says_so(trial: Trial) -> None:
    def arm(content: dict, **changes: object) -> None:
        content["arms"]["100-0-0"] |= changes

    def both(content: dict) -> None:
        arm(content, optimizer={"learning_rate": 1e-4})

    def told(*changes: Callable[[dict], None]) -> list[str]:
        def all_of(content: dict) -> None:
            for change in (setting("seeds", 9), *changes):
                change(content)

        return [said for said in testable.problems(trial(EVIDENCE, all_of)) if "differs from" in said]

    assert told() == []
    (said,) = told(both)
    place = "experiments/trial.yaml: arms.100-0-0: differs from 80-10-10"
    assert said.startswith(f"{place} in masking and optimizer, so what comes of it")
    assert told(both, setting("varies", ["masking", "optimizer", "encoder"])) == []


def test_a_scale_that_is_no_evidence_promises_nothing(trial: Trial) -> None:
    assert list(testable.problems(trial(experiment=setting("seeds", 2)))) == []
