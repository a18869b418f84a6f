"""What a scale measures, budgets in equal FLOPs, plug-ins, Hugging Face folders: before a run is trained."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm import config, flops, grammar, identity, matching, measured, measures, planner, study
from mlm.errors import InputError
from mlm.experiment import Measures
from tests.mlm.places import EXPERIMENT, SCALE_FILE, TRIAL_FILE, digests, refusal, setting
from tests.mlm.test_hugging_face import model, wordpiece

Trial = Callable[..., study.Study]


def names(run: dict[str, Any] | None = None, **stated: Any) -> list[str]:
    return measured.names(config.Run.model_validate(run or {}), Measures.model_validate(stated), grammar.KINDS)


# Measures


def test_each_measure_is_switched_on_by_its_key() -> None:
    assert names(probe={})[:2] == ["probe.accuracy", "probe.ambiguous_accuracy"]
    kinds = [f"pairs.{kind}.accuracy" for kind in grammar.KINDS]
    assert names(pairs={}) == ["pairs.accuracy", *kinds, "pairs.loss_nats"]
    layers = [f"trec.layer_{layer}.accuracy" for layer in range(3)]
    assert names(tasks=["trec"]) == ["trec.accuracy", *layers]
    assert names(finetune={"tasks": ["trec"]}) == ["finetune.trec.accuracy"]
    assert names(reach={"loss_nats": [4.40]}) == ["reach.4.4.tokens", "reach.4.4.flops", "reach.4.4.censored"]
    together = names(evaluation={}, probe={}, pairs={}, tasks=["trec"], plugins={"mine": "a:b"})
    assert len(together) == len(set(together))
    assert measures.known("mine.depth", together) and not measures.known("mine", together)


def test_what_a_run_cannot_have_has_no_name() -> None:
    whole, masked = names(evaluation={}), names({"masking": {"split": {"mask": 1.0}}}, evaluation={})
    assert set(whole) - set(masked) == {
        f"{part}.own.{kind}.{what}"
        for part in measures.SPLITS
        for kind in ("same", "random")
        for what in measures.QUANTITIES
    }
    pairs = names({"objective": "mlm+nsp"}, evaluation={})
    assert set(pairs) - set(whole) == {
        f"{part}.own.relation.{what}" for part in measures.SPLITS for what in measures.QUANTITIES
    }


def test_a_plug_in_may_give_what_the_settings_do_not_say() -> None:
    masking = {"split": {"mask": 1.0}, "strategy": "their.lab:Strategy"}
    found = set(names({"masking": masking}, evaluation={}))
    assert found == set(names(evaluation={})), "a strategy may heed the split or not"
    found = names({"encoder": {"architecture": "their.lab:Encoder"}}, probe={}, tasks=["trec"])
    for name in ("probe.layer_7.accuracy", "probe.layer_0.ambiguous_accuracy", "trec.layer_24.accuracy"):
        assert measures.known(name, found)
    assert not measures.known("probe.layer_1.loss_nats", found)


def test_an_objective_of_pairs_alone_has_no_values_of_tokens(trial: Trial) -> None:
    for objective in ("nsp", "sop"):
        own = {name for name in names({"objective": objective}, evaluation={}) if ".own." in name}
        assert own == {f"{part}.own.relation.{w}" for part in measures.SPLITS for w in measures.QUANTITIES}

    def alone(content: dict[str, Any]) -> None:
        content["arms"]["bert"]["objective"] = "nsp"
        content["contrasts"]["secondary"] = [{"arm": "bert", "measure": "test.own.loss_nats"}]

    assert (
        "contrasts.secondary.0.measure: test.own.loss_nats does not exist for an arm whose objective predicts "
        "no tokens" in refusal(trial, experiment=alone)
    )


def test_a_wrong_measure_is_told_once_and_only_what_is_near_is_proposed(trial: Trial) -> None:
    def wrong(content: dict[str, Any]) -> None:
        content["arms"]["deep"] = {"encoder": {"layers": 3}}
        content["contrasts"]["secondary"] = [{"arm": "bert"}, {"arm": "deep"}]
        content["primary_measure"] = "probe.layer_9.accuracy"

    assert refusal(trial, experiment=wrong).count("primary_measure: ") == 1
    said = refusal(trial, experiment=setting("primary_measure", "xyzzy"))
    assert "near" not in said
    assert "primary_measure: no measure is called 'xyzzy'; what is measured is switched on in" in said


def test_measures_over_training_need_weights_on_the_way(trial: Trial) -> None:
    over = setting("measures/over_training", ["probe"])
    said = refusal(trial, scale=over)
    assert f"{SCALE_FILE}measures.over_training: no run keeps weights on the way; give `checkpoints_at`" in said
    assert trial(over, setting("arms/bert/checkpoints_at", [1280])).cells
    assert planner.load_study("test", ["trial"]).cells


def test_a_loss_that_no_evaluation_could_see_is_refused_with_its_arm(trial: Trial) -> None:
    asked = setting("measures/reach", {"loss_nats": [4.0]})
    assert trial(asked).cells
    late = setting("arms/bert", {"encoder": {"preset": "bert"}, "optimizer": {"decay_tokens": 4096}})
    assert trial(experiment=late).cells
    said = refusal(trial, scale=asked, experiment=late)
    assert f"{TRIAL_FILE}arms.bert: for measures.reach, the first evaluation comes after 2048" in said
    assert "arms.100-0-0" not in said and "decays from 1024 on" in said


def test_a_contrast_on_what_is_not_measured_is_refused_with_where_it_is_switched_on(trial: Trial) -> None:
    said = refusal(trial, experiment=setting("primary_measure", "pairs.accuracy"))
    assert "primary_measure: no measure is called 'pairs.accuracy'" in said
    assert "`measures:` of the scale" in said
    switched = setting("measures/pairs", {"per_kind": 20})
    assert trial(switched, setting("primary_measure", "pairs.accuracy")).cells
    relation = setting("primary_measure", "test.own.relation.accuracy")
    assert "whose objective has no sentence pairs" in refusal(trial, experiment=relation)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("measures", {}, "measures: nothing is measured; give at least `evaluation: {}`"),
        ("measures/over_training", ["pairs"], "measures: over_training: pairs is not measured"),
        ("measures/over_training", ["reach"], "measures.over_training.0: is 'reach'; choose one of"),
        ("measures/plugins", {"probe": "a:b"}, "measures: plugins: probe is taken"),
        ("measures/plugins", {"mine": "nowhere:b"}, "measures.plugins: mine: nowhere:b: there is no module"),
        ("measures/tasks", ["trec", "trec"], "measures.tasks: trec is there twice; give each task once"),
        ("measures/tasks", ["../probes/trec"], "measures.tasks.0: is '../probes/trec'"),
        ("measures/tasks", ["probe"], "measures.tasks: probe is what another measure is called"),
        ("measures/finetune", {"tasks": ["../trec"]}, "measures.finetune.tasks.0: is '../trec'"),
        ("measures/reach/loss_nats", [4.4, 4.4000001], "measures.reach: loss_nats: [4.4, 4.4000001] have the"),
        ("measures/tasks", ["trek"], "measures.tasks: experiments/probes/trek.yaml: no such file"),
        ("measures/tasks", [], "measures.tasks: is []"),
        ("measures/pairs/file", "blimp.jsonl", "measures.pairs.file: blimp.jsonl: no such file"),
        ("measures/reach/loss_nats", [0], "measures.reach.loss_nats.0: is 0"),
        ("measures/finetune", {"tasks": ["trec"], "epoch": 3}, "measures.finetune.epoch: unknown key; did"),
    ],
)  # fmt: skip
def test_a_measure_that_cannot_be_taken_is_refused(trial: Trial, path: str, value: Any, said: str) -> None:
    found = refusal(trial, scale=setting(path, value))
    assert f"{SCALE_FILE}{said}" in found
    assert len(found.splitlines()) == 1, "and nothing else, and once"


def test_blimp_by_path_has_its_own_kinds_and_its_content_is_in_the_name(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lines(*kinds: str) -> str:
        return "".join(
            json.dumps({"UID": kind, "sentence_good": "They go.", "sentence_bad": "They goes."}) + "\n"
            for kind in kinds
        )

    folder = tmp_path / "blimp"
    folder.mkdir()
    (folder / "a.jsonl").write_text(lines("anaphor_gender", "anaphor_number"))
    on = setting("measures/pairs", {"file": "blimp"})
    contrast = setting("primary_measure", "pairs.anaphor_gender.accuracy")
    before = trial(on, contrast)
    assert "pairs.agreement_plain.accuracy" not in before.names("trial")["bert"]
    (folder / "b.jsonl").write_text(lines("islands"))
    after = trial(on, contrast)
    assert "pairs.islands.accuracy" in after.names("trial")["bert"]

    def files(found: study.Study) -> dict[str, str]:
        return {one.name: one.file for one in found.measures["trial"]}

    assert files(before)["pairs"] != files(after)["pairs"]
    assert files(before)["probe"] == files(after)["probe"]
    reads: list[Path] = []
    monkeypatch.setattr(grammar, "read", lambda path, read=grammar.read: (reads.append(path), read(path))[1])
    pipeline = trial(on, contrast, other=copy.deepcopy(EXPERIMENT))
    assert pipeline.record() and len(reads) == 1, "once a study: BLiMP has 67,000 lines"
    (folder / "b.jsonl").write_text("[]\n")
    said = refusal(trial, scale=on, experiment=contrast)
    assert said.splitlines()[0].startswith(
        f"{SCALE_FILE}measures.pairs.file: blimp/b.jsonl, line 1: not a pair"
    )
    assert len(said.splitlines()) == 1


def test_the_index_says_what_is_measured_of_each_arm(trial: Trial) -> None:
    record = trial(setting("measures/pairs", {"per_kind": 20})).record()["experiments"]["trial"]
    assert set(record["measure_files"]) == {"evaluation", "probe", "pairs"}
    assert set(record["untrained_files"]) == {"probe", "pairs"}
    of = record["measures"]
    assert "test.own.random.accuracy" in of["80-10-10"]
    assert "test.own.random.accuracy" not in of["100-0-0"]
    json.dumps(record)


def test_a_scale_may_ask_for_more_seeds_than_a_number_says(trial: Trial) -> None:
    more = setting("seeds_at_least", 4)
    assert {cell.seed for cell in trial(more).cells} == {0, 1, 2, 3}
    assert {cell.seed for cell in trial(more, setting("seeds", [5, 9])).cells} == {5, 9}


# Budgets


def budget(found: study.Study, arm: str) -> config.Run:
    return found.runs[digests(found)[arm, 0]].config


def cost(run: config.Run) -> int:
    return flops.of_run(run, run.vocabulary.size)


def test_arms_are_matched_by_flops_where_the_file_says_so(trial: Trial) -> None:
    wide = setting("arms/wide", {"encoder": {"width": 64}})
    plain, found = trial(experiment=wide), trial(experiment=lambda c: (wide(c), c.update(match="flops")))
    base, arm = budget(found, "80-10-10"), budget(found, "wide")
    assert base == budget(plain, "80-10-10")
    assert budget(found, "100-0-0") == budget(plain, "100-0-0"), "equal already: no other run"
    assert cost(arm) <= cost(base) < cost(arm) + cost(arm) // arm.steps
    before = budget(plain, "wide")
    for key in ("warmup_tokens", "decay_tokens"):
        share = getattr(before.optimizer, key) / before.budget_tokens
        assert 0 <= share * arm.budget_tokens - getattr(arm.optimizer, key) < 1
    alone = trial(experiment=lambda c: (wide(c), c["arms"]["wide"].update(match="flops")))
    assert budget(alone, "wide") == arm
    assert digests(alone)["wide", 0] == digests(found)["wide", 0]
    opposite = trial(
        experiment=lambda c: (wide(c), c["arms"]["wide"].update(match="tokens"), c.update(match="flops"))
    )
    assert budget(opposite, "wide") == before


@given(
    st.integers(1, 4).map(lambda n: 16 * n),
    st.sampled_from([None, [4, 16], [8, 16]]),
    st.floats(0.1, 0.9),
    st.integers(8, 4000),
)
def test_matched_within_a_step_and_never_above(width: int, lengths: Any, end: float, steps: int) -> None:
    common = {"sequence_length": 16, "batch_size": 4, "budget_tokens": 64 * steps, "vocabulary": {"size": 300}}
    common["encoder"] = {"width": 32, "heads": 2}
    baseline = config.Run.model_validate(common)
    changes: dict[str, Any] = {"encoder": {"width": width, "heads": 2}}
    if lengths:
        changes["lengths"] = {"shape": "staged", "values": lengths, "ends": [end]}
    try:
        found = matching.matched(config.Run.model_validate(common | changes), baseline, "flops")
    except InputError:
        assert cost(config.Run.model_validate(common | changes | {"budget_tokens": 64})) > cost(baseline)
        return
    dearest = flops.of_token(found.encoder, 300, 16) * found.tokens_per_step
    assert cost(found) <= cost(baseline) < cost(found) + dearest


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("match", "seconds", "match: is 'seconds'; choose one of 'tokens' or 'flops'"),
        ("arms/bert/match", "seconds", "arms.bert: match: is 'seconds'; choose one of tokens, flops"),
        ("arms/bert", {"match": "flops", "batch_size": 10_000, "budget_tokens": 160_000},
         "arms.bert: match: one step costs more FLOPs than all of the baseline's"),
        ("arms/bert", {"match": "flops", "checkpoints_at": [5120], "encoder": {"width": 64}},
         "arms.bert: with match: flops: checkpoints_at 5120 lies behind budget_tokens"),
    ],
)  # fmt: skip
def test_what_cannot_be_matched_is_refused(trial: Trial, path: str, value: Any, said: str) -> None:
    assert f"{TRIAL_FILE}{said}" in refusal(trial, experiment=setting(path, value))


# Plug-ins

LAB = """
import math

def falling(progress):
    return {body}

def depth(encoder, tokenizer, run):
    return {{"layers": encoder.options.layers, "upper.width": run.encoder.width}}
"""


def lab(tmp_path: Path, name: str, body: str = "progress ** 2") -> None:
    (tmp_path / f"{name}.py").write_text(LAB.format(body=body))


def test_a_plug_in_of_a_run_is_in_its_digest_and_one_of_a_scale_in_its_measures(
    trial: Trial, tmp_path: Path
) -> None:
    lab(tmp_path, "lab_one")
    own = setting("arms/own", {"optimizer": {"decay_shape": "lab_one:falling"}})
    measured_too = setting("measures/plugins", {"depth": "lab_one:depth"})
    found = trial(measured_too, own)
    run = found.runs[digests(found)["own", 0]]
    assert list(run.record()["plugins"]) == ["lab_one:falling"]
    assert run.digest == identity.digest(run.record())
    assert "plugins" not in found.runs[digests(found)["bert", 0]].record()
    assert "depth.*" in found.names("trial")["bert"]
    again = trial(measured_too, lambda c: (own(c), c.update(primary_measure="depth.upper.width")))
    assert digests(again) == digests(found)


def test_another_source_is_another_run_and_another_measure(trial: Trial, tmp_path: Path) -> None:
    found = {}
    for name, body in (("lab_two", "progress ** 2"), ("lab_three", "progress ** 3")):
        lab(tmp_path, name, body)
        one = trial(setting("measures/plugins", {"depth": f"{name}:depth"}))
        files = {measure.name: measure.file for measure in one.measures["trial"]}
        found[name] = files
    assert found["lab_two"]["plugins.depth"] != found["lab_three"]["plugins.depth"]
    assert found["lab_two"]["probe"] == found["lab_three"]["probe"]


def test_a_plug_in_that_cannot_be_used_is_refused_with_its_key(trial: Trial, tmp_path: Path) -> None:
    lab(tmp_path, "lab_four", "2 * progress")
    own = setting("arms/bert/optimizer", {"decay_shape": "lab_four:falling"})
    assert f"{TRIAL_FILE}arms.bert.optimizer.decay_shape: lab_four:falling: is " in refusal(
        trial, experiment=own
    )
    wrong = refusal(trial, scale=setting("measures/plugins", {"depth": "lab_four:falling"}))
    assert f"{SCALE_FILE}measures.plugins: depth: lab_four:falling: " in wrong


# Hugging Face


def test_a_folder_brings_vocabulary_and_weights_and_both_are_in_the_record(
    trial: Trial, tmp_path: Path
) -> None:
    folder = wordpiece(tmp_path / "bert-of-theirs")
    model(folder)
    changes = setting("arms/on", {"init_from": str(folder), "sequence_length": 16})

    def alone(content: dict[str, Any]) -> None:
        changes(content)
        content["arms"] = {"80-10-10": content["arms"]["80-10-10"], "on": content["arms"]["on"]}
        content["contrasts"] = {"primary": {"arm": "on"}}

    found = trial(setting("run/encoder", None), alone)
    run = found.runs[digests(found)["on", 0]]
    assert run.config.tokenizer == "bert-of-theirs", "one spelling for one folder"
    data = run.record()["data"]
    assert data["vocabulary"].startswith("reference-huggingface-")
    assert data["initial"] and run.digest == identity.digest(run.record())
    assert "initial" not in found.runs[digests(found)["80-10-10", 0]].record()["data"]
    weights = next(folder.glob("*.safetensors"))
    model(folder, rows=500, initializer_range=0.5)
    assert weights.exists()
    after = trial(setting("run/encoder", None), alone)
    assert digests(after)["on", 0] != run.digest
    assert after.runs[digests(after)["on", 0]].data.vocabulary == run.data.vocabulary
