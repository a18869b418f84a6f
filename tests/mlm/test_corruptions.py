"""The corruption matrix: frozen masks that no run decides, its diagonal, and what the planner fills in."""

from pathlib import Path

import pytest
import torch

from mlm import checks, config, corruptions, heldout, measured, measures, shards
from mlm.experiment import Corruptions, Measures
from mlm.runs import RunFolder

FILE = Path("experiments/trial.yaml")
ASKED = Measures.model_validate({"corruptions": {"sequences": 16}})


def run(**stated: object) -> config.Run:
    return config.Run.model_validate(stated)


RUNS = {
    "80-10-10": run(),
    "rate.30-to-.15": run(
        masking={"rate": 0.3, "split": {"mask": 1.0}, "change": {"shape": "linear", "rate": 0.15}}
    ),
    "bert_again": run(encoder={"preset": "bert"}),
}


def test_every_arm_is_there_under_its_name_as_it_is_at_the_end_of_a_run() -> None:
    filled = measured.with_arms(ASKED, RUNS).corruptions
    assert filled is not None and list(filled.arms) == list(RUNS) and filled.sequences == 16
    assert filled.arms["80-10-10"] == filled.arms["bert_again"] == config.Masking()
    end = filled.arms["rate.30-to-.15"]
    assert (end.rate, end.split, end.change) == (0.15, config.Split(mask=1.0), None)
    assert ASKED.corruptions is not None and not ASKED.corruptions.arms, "what was stated stays"
    without = Measures.model_validate({"evaluation": {}})
    assert measured.with_arms(without, RUNS) is without


def test_a_value_tells_its_arm_whatever_the_arm_is_called() -> None:
    names = measured.names(run(), measured.with_arms(ASKED, RUNS), ())
    assert [name.partition(".")[2].rpartition(".")[0] for name in names[::2]] == list(RUNS)
    assert [measures.better(name) for name in names[:2]] == ["lower", "higher"]
    assert all(measures.known(name, names) for name in names)
    assert {name.partition(".")[0] for name in names} <= set(measures.RESERVED)


def test_the_file_is_named_by_the_corruptions_of_all_arms() -> None:
    def file(runs: dict[str, config.Run]) -> str:
        (one,) = measured.of(measured.with_arms(ASKED, runs), "here")
        return one.file

    assert file(RUNS) == file({arm: one.model_copy(update={"budget_tokens": 1}) for arm, one in RUNS.items()})
    assert file(RUNS) != file({**RUNS, "80-10-10": run(masking={"rate": 0.2})})
    assert file(RUNS) != file({**RUNS, "more": run()})


def test_so_it_is_by_what_a_strategy_of_the_users_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = []
    for name, rate in (("matrix_lab_one", 0.1), ("matrix_lab_two", 0.2), ("matrix_lab_same", 0.1)):
        (tmp_path / f"{name}.py").write_text(f"def keep(*given, **stated):\n    return {rate}\n")
        arms = {"mine": run(masking={"strategy": f"{name}:keep"})}
        (one,) = measured.of(measured.with_arms(ASKED, arms), "here")
        files.append(one.file)
    before = files[0]
    (tmp_path / "matrix_lab_one.py").write_text("def keep(*given, **stated):\n    return 0.3\n")
    arms = {"mine": run(masking={"strategy": "matrix_lab_one:keep"})}
    (after,) = measured.of(measured.with_arms(ASKED, arms), "here")
    assert after.file != before and len(set(files)) == 3


def test_the_diagonal_is_the_evaluation_under_the_runs_own_corruption(
    here: Path, modern: RunFolder, data: dict[str, shards.Shard]
) -> None:
    begins_word, encoder = modern.tokenizer().begins_word, modern.encoder()
    other = config.Masking.model_validate({"rate": 0.4, "unit": "word", "split": {"random": 1.0}})
    asked = Corruptions(sequences=16, arms={"own": modern.config.masking, "b.c": other, "again": other})
    row = corruptions.measure(encoder, modern.config, data["test"], begins_word, asked)
    plain = heldout.measure(encoder, modern.config, data, begins_word, 16)
    for what in measures.QUANTITIES:
        assert row[f"corruption.own.{what}"] == plain[f"test.own.{what}"]
        assert row[f"corruption.b.c.{what}"] == row[f"corruption.again.{what}"] != row[f"corruption.own.{what}"]
    stated = Measures(corruptions=asked)
    assert list(row) == measured.names(modern.config, stated, ())


def test_masks_and_text_are_those_of_every_run(
    modern: RunFolder, bert: RunFolder, data: dict[str, shards.Shard]
) -> None:
    """Of every seed, arm and objective: sentence pairs too are asked for the tokens of plain windows."""
    pairs = bert.config.model_copy(update={"objective": "mlm+nsp", "seed": 7, "budget_tokens": 128})
    masking = config.Masking.model_validate({"rate": 0.3, "unit": "span"})
    one, *others = (
        corruptions.frozen(each, masking, data["test"], [True, False] * 200, 70)
        for each in (modern.config, bert.config, pairs)
    )
    for other in others:
        for mine, theirs in zip(one, other, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(mine[:5], theirs[:5], strict=True))
            assert mine.segments is theirs.segments is None


def test_objectives_without_a_corruption_are_refused_with_their_arm() -> None:
    found = list(checks.corruptible(FILE, {**RUNS, "left": run(objective="causal")}, ASKED))
    assert len(found) == 1
    assert found[0].startswith(f"{FILE}: arms.left: objective causal corrupts nothing") and "leave" in found[0]
    assert list(checks.corruptible(FILE, {"order": run(objective="sop")}, ASKED))
    assert not list(checks.corruptible(FILE, {**RUNS, "both": run(objective="mlm+nsp")}, ASKED))
    assert not list(checks.corruptible(FILE, {"left": run(objective="causal")}, Measures(evaluation={})))


def test_corruptions_of_ones_own_stand_beside_the_arms_under_other_names() -> None:
    more = Measures.model_validate({"corruptions": {"arms": {"hard": {"rate": 0.4, "split": {"mask": 1}}}}})
    filled = measured.with_arms(more, RUNS)
    assert filled.corruptions is not None and list(filled.corruptions.arms) == [*RUNS, "hard"]
    assert not list(checks.corruptible(FILE, RUNS, filled))
    clash = Measures.model_validate({"corruptions": {"arms": {"80-10-10": {"rate": 0.4}}}})
    for asked in (clash, measured.with_arms(clash, RUNS)):
        (said,) = checks.corruptible(FILE, RUNS, asked)
        assert "arms.80-10-10: measures.corruptions.arms has another corruption of this name; rename" in said
