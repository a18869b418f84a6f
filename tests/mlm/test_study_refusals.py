"""What cannot be right in an experiment, a scale or a file is refused by file, key and remedy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm import config, layers, study, yaml_file
from mlm.errors import InputError
from mlm.planner import load_study
from tests.mlm.places import EXPERIMENT, SCALE_FILE, TRIAL_FILE, done, refusal, setting, write_yaml


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("run/sequence_lenght", 16, "run.sequence_lenght: unknown key; did you mean `sequence_length`?"),
        ("run/encoder/hieght", 1, "run.encoder.hieght: unknown key"),
        ("run/batch_size", "64", "run.batch_size: is '64' (text)"),
        ("run/batch_size", 2.5, "run.batch_size: is 2.5"),
        ("run/batch_size", True, "run.batch_size: is True (a yes/no)"),
        ("run/budget_tokens", "5k", "run.budget_tokens: is '5k' (text)"),
        ("run/optimizer/learning_rate", "fast", "run.optimizer.learning_rate: is 'fast' (text)"),
        ("run/optimizer/learning_rate", 0, "run.optimizer.learning_rate: is 0; should be greater than 0"),
        ("run/optimizer/learning_rate", float("nan"), "run.optimizer.learning_rate: is nan"),
        ("run/optimizer/beta2", 1.0, "run.optimizer.beta2: is 1.0; should be less than 1"),
        ("run/masking", {"selection": "exactly"}, "run.masking.selection: is 'exactly'; choose one of 'exact'"),
        ("run/vocabulary/size", 5, "run.vocabulary.size: is 5; should be greater than 5"),
        ("run/vocabulary/kind", "wordpiece", "run.vocabulary.kind: is 'wordpiece'; choose one of 'unigram'"),
        ("run/sequence_length", 97, "run.sequence_length: sequence_length 97 exceeds encoder.max_positions 96"),
        ("run/budget_tokens", 127, "run.budget_tokens: budget_tokens 127 is less than one step"),
        ("run/optimizer/warmup_tokens", 5000, "run.optimizer.warmup_tokens: optimizer.warmup_tokens +"),
        ("run/encoder/heads", 3, "run.encoder: width 32 is not divisible by 3 heads"),
        ("run/encoder/heads", 32, "run.encoder: rotary positions need an even head width"),
        ("run/encoder/preset", "gpt", "run.encoder: `preset` is 'gpt'; choose one of bert, modern"),
        ("run/encoder/size", "huge", "run.encoder: `size` is 'huge'; choose one of tiny"),
        ("run/encoder", 3, "run.encoder: is 3"),
        ("run/corpus", "bible", "experiments/corpora/bible.yaml: no such file. `corpus` names a file in "),
        ("experiments", ["trail"], "experiments: no file experiments/trail.yaml; there are: trial"),
        ("measures/probe/train_sentences", 3, "measures.probe.train_sentences: is 3"),
        ("measures/probes", {}, "measures.probes: unknown key; did you mean `probe`?"),
        ("evidence", None, "evidence: missing"),
        ("numerics/dtype", "float8", "numerics.dtype: is 'float8'; choose one of 'float32' or 'bfloat16'"),
        ("seeds_at_most", 0, "seeds_at_most: is 0"),
    ],
)  # fmt: skip
def test_a_scale_is_refused(trial: Callable[..., study.Study], path: str, value: Any, said: str) -> None:
    found = refusal(trial, scale=setting(path, value))
    assert found.count(said) == 1, "said, and once, not once an arm"
    assert found.startswith(SCALE_FILE) or said.startswith("experiments/")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("base/masking/rate", 1.5, "base.masking.rate: is 1.5; should be less than or equal to 1 (a share:"),
        ("base/masking/rate", -0.1, "base.masking.rate: is -0.1; should be greater than or equal to 0"),
        ("base/masking/rte", 0.1, "base.masking.rte: unknown key; did you mean `rate`?"),
        ("arms/bert/masking", {"split": {"mask": 0.8, "same": 0.3, "random": 0.1}},
         "arms.bert.masking.split: mask + same + random = 1.2; the shares"),
        ("arms/bert/masking", {"split": {"mask": 1.2, "same": -0.2}}, "arms.bert.masking.split.mask: is 1.2"),
        ("arms/bert/masking", {"split": [0.8, 0.1, 0.1]}, "arms.bert.masking.split: is [0.8, 0.1, 0.1]"),
        ("arms/bert/seed", -1, "arms.bert.seed: is -1"),
        ("arms/twin", {"masking": {"rate": 0.15, "split": {"mask": 0.8, "same": 0.1, "random": 0.1}}},
         "arms.twin: asks for the same runs as arms.80-10-10"),
        ("arms", {}, "arms: is {}"),
        ("seeds", 0, "seeds"),
        ("seeds", [1, 2, 1], "seeds: is [1, 2, 1]; give a number n"),
        ("seeds", [], "seeds: is []; give a number n"),
        ("baseline", "90-5-5", "baseline: no arm is called '90-5-5'; there are: 80-10-10, 100-0-0, bert"),
        ("contrasts/primary/arm", "100", "contrasts.primary.arm: no arm is called '100'; there are:"),
        ("contrasts/primary/against", "7", "contrasts.primary.against: no arm is called '7'"),
        ("contrasts/primary/arm", "80-10-10", "contrasts.primary: compares 80-10-10 with itself"),
        ("contrasts/secondary", [{"arm": "bert"}, {"arm": "bert"}],
         "contrasts.secondary.1: says the same as contrasts.secondary.0; remove one"),
        ("arms/bert/seed", 3, "arms.bert.seed: seeds belong in `seeds:` of the experiment"),
        ("contrasts/primary/expect", "better", "contrasts.primary.expect: is 'better'; choose one of 'higher'"),
        ("contrasts/secondary", [{"arm": "bert"}, {"arm": "brt"}], "contrasts.secondary.1.arm: no arm is"),
        ("contrasts/equivalence", [{"arm": "bert"}], "contrasts.equivalence.0.margin: missing"),
        ("contrasts/equivalence", [{"arm": "bert", "margin": 0}], "contrasts.equivalence.0.margin: is 0"),
        ("primary_measure", "probe.acuracy", "primary_measure: no measure is called 'probe.acuracy'; near are"),
        ("primary_measure", "probe.layer_3.accuracy", "primary_measure: no measure is called 'probe.layer_3"),
        ("contrasts/primary/measure", "test.own.same.accuracy",
         "contrasts.primary.measure: test.own.same.accuracy does not exist for an arm whose split has no same"),
        ("contrast", {}, "contrast: unknown key; did you mean `contrasts`?"),
        ("question", None, "question: missing"),
        ("title", 5, "title: is 5"),
    ],
)  # fmt: skip
def test_an_experiment_is_refused(trial: Callable[..., study.Study], path: str, value: Any, said: str) -> None:
    found = refusal(trial, experiment=setting(path, value))
    assert said in found
    assert found.startswith(TRIAL_FILE)


def test_all_problems_of_a_file_at_once_each_named_once(trial: Callable[..., study.Study]) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["arms"]["100-0-0"]["masking"]["rate"] = 2.0
        content["arms"]["bert"]["batch_sise"] = 3
        content["base"]["sequence_length"] = "long"
        content["baseline"] = "nobody"
        content["contrasts"]["secondary"] = [{"arm": "noone"}]

    with pytest.raises(InputError) as caught:
        trial(experiment=spoil)
    problems = caught.value.problems
    keys = {problem.split(": ")[1] for problem in problems}
    assert keys == {
        "arms.100-0-0.masking.rate",
        "arms.bert.batch_sise",
        "base.sequence_length",
        "baseline",
        "contrasts.secondary.0.arm",
    }
    assert len(problems) == len(keys), "what the base says wrongly is said once, not once an arm"


def test_a_schema_error_hides_neither_arms_nor_problems_between_keys(trial: Callable[..., study.Study]) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["seeds"] = "eight"
        content["arms"]["bert"]["encoder"] = {"preset": "brt"}
        content["arms"]["bert"]["budget_tokens"] = 5

    found = refusal(trial, experiment=spoil)
    assert "seeds: is 'eight'; give a number n of seeds" in found
    assert "arms.bert.encoder: `preset` is 'brt'; choose one of bert, modern" in found
    assert "arms.bert.budget_tokens: budget_tokens 5 is less than one step" in found


@pytest.mark.parametrize("name", ["measure", "all", "my split", "-x", "a$(b)"])
def test_an_experiment_has_a_plain_name_that_no_rule_has(trial: Callable[..., study.Study], name: str) -> None:
    trial()
    Path(f"experiments/{name}.yaml").write_text(Path("experiments/trial.yaml").read_text())
    with pytest.raises(InputError, match="name: use letters"):
        load_study("test", [name])


@pytest.mark.parametrize("name", ["runs", "data", "logs"])
def test_a_scale_has_no_name_that_results_has(trial: Callable[..., study.Study], name: str) -> None:
    trial()
    Path(f"experiments/scales/{name}.yaml").write_text(Path("experiments/scales/test.yaml").read_text())
    with pytest.raises(InputError, match=f"results/{name} is there for something else"):
        load_study(name)


def test_the_layer_that_set_a_value_is_named(trial: Callable[..., study.Study]) -> None:
    wrong = setting("run/masking", {"rate": 7.0})
    assert refusal(trial, scale=wrong, experiment=setting("base", {})).startswith(
        SCALE_FILE + "run.masking.rate"
    )
    assert refusal(trial, experiment=setting("base/masking/rate", 7.0)).startswith(
        TRIAL_FILE + "base.masking.rate"
    )
    for_all = setting(
        "arms", {arm: {"masking": {"rate": 7.0 + i}} for i, arm in enumerate(("80-10-10", "100-0-0"))}
    )
    assert refusal(trial, experiment=for_all).startswith(TRIAL_FILE + "arms.80-10-10.masking.rate")
    trial()
    with pytest.raises(InputError, match=r"^--set: masking\.rate: is 7\.0"):
        load_study("test", ["trial"], {"masking": {"rate": 7.0}})


def test_problems_of_several_files_come_together(trial: Callable[..., study.Study]) -> None:
    found = refusal(
        trial,
        scale=setting("experiments", ["trial", "other", "third"]),
        experiment=setting("baseline", "a"),
        other={**EXPERIMENT, "title": 3},
        third={"title": "t"},
    )
    assert TRIAL_FILE + "baseline" in found
    assert "experiments/other.yaml: title" in found
    assert "experiments/third.yaml: question: missing" in found


def test_what_the_scale_does_not_name_stops_nothing(trial: Callable[..., study.Study]) -> None:
    found = trial(other={**EXPERIMENT, "primary_measure": "finetune.trec.accuracy"})
    assert list(found.experiments) == ["trial"]
    assert found.left_out["other"][0].startswith(
        "experiments/other.yaml: primary_measure: no measure is called"
    )
    with pytest.raises(InputError, match="primary_measure"):
        load_study("test", ["other"])
    # What no scale could run is told at once.
    assert "experiments/third.yaml: question: missing" in refusal(trial, third={"title": "t"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("arms:\n  a: {}\n  a: {}\n", "line 3: `a` is given twice"),
        ("title: t\ntitle: u\n", "line 2: `title` is given twice"),
        ("arms: {a: {x: 1, x: 2}}\n", "line 1: `x` is given twice"),
        ("seeds: [1, 2\n", "experiments/trial.yaml"),
        ("80: {}\n", "key 80 is not text; write it in quotes"),
        ("- a\n", "expected `key: value` lines, found a list"),
        ("", "expected `key: value` lines, found nothing"),
        ("a: !!python/object/apply:os.system [echo]\n", "experiments/trial.yaml"),
        ("a: *nowhere\n", "experiments/trial.yaml"),
        ("&a a: *a\n", "experiments/trial.yaml"),
        ("\x00", "experiments/trial.yaml"),
    ],
)
def test_yaml_is_read_strictly(trial: Callable[..., study.Study], text: str, said: str) -> None:
    trial()
    Path("experiments/trial.yaml").write_text(text)
    with pytest.raises(InputError, match="experiments/trial") as caught:
        load_study("test")
    assert said in str(caught.value)


def test_files_that_are_not_there_or_not_text(trial: Callable[..., study.Study]) -> None:
    trial()
    with pytest.raises(InputError, match=r"scales/huge\.yaml: no such file\. `scale` is one of: test"):
        load_study("huge")
    with pytest.raises(InputError, match=r"experiments/none\.yaml: no such file\. there are: trial"):
        load_study("test", ["none"])
    Path("experiments/trial.yaml").write_bytes(b"title: \xff\n")
    with pytest.raises(InputError, match=r"trial\.yaml: not UTF-8 at byte 7"):
        load_study("test")


KEYS = st.sampled_from(["rate", "split", "mask", "width", "seed", "size", "x"])
SECTIONS = st.sampled_from(
    ["masking", "encoder", "vocabulary", "optimizer", "seed", "curve", "sequence_length"]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
ANYTHING = st.recursive(LEAVES, lambda x: st.lists(x, max_size=3) | st.dictionaries(KEYS, x, max_size=3))


@given(ANYTHING, SECTIONS)
def test_whatever_stands_in_a_file_is_a_run_or_bad_input(value: Any, key: str) -> None:
    """Never a traceback."""
    stated: layers.Layers = [(Path("f.yaml"), "base", {key: value})]
    try:
        run = layers.resolve(stated)
    except InputError as error:
        assert all(problem.startswith("f.yaml: base") for problem in error.problems)
    else:
        assert run == config.Run.model_validate(run.model_dump())


def test_one_bad_file_is_told_by_the_command_line_too(
    trial: Callable[..., study.Study], tmp_path: Path
) -> None:
    from tests.mlm.places import mlm, refused

    trial()
    write_yaml(tmp_path / "experiments/trial.yaml", {**EXPERIMENT, "baseline": "x", "titel": "y"})
    said = refused(mlm(tmp_path, "train", "trial", "--scale", "test"))
    assert said.count("error: experiments/trial.yaml: ") == 1
    assert "titel: unknown key; did you mean `title`?" in said
    assert "train" in done(mlm(tmp_path, "--help"))


def _longer(content: dict[str, Any], **changes: Any) -> None:
    content["arms"]["bert"] = {"budget_tokens": 16 * 8 * 48}
    content["contrasts"] = {"primary": {"arm": "bert", "measure": changes.pop("measure", "probe.accuracy")}}
    content |= changes


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {},
            "contrasts.primary: bert is trained on 6144 tokens and 80-10-10 on 5120, with `match: tokens`",
        ),
        ({"varies": ["budget_tokens", "masking"]}, None),
        ({"match": "flops"}, None),
        # Where a loss is waited for, a budget is for how long.
        ({"measure": "reach.5.tokens", "measures": {"reach": {"loss_nats": [5]}}}, None),
    ],
)
def test_budgets_that_differ_are_meant(
    trial: Callable[..., study.Study], changes: dict[str, Any], said: str | None
) -> None:
    if said is None:
        trial(experiment=lambda content: _longer(content, **changes))
    else:
        assert said in refusal(trial, experiment=lambda content: _longer(content, **changes))


def test_a_model_of_another_objective_may_be_waited_for_under_its_own_corruption(
    trial: Callable[..., study.Study],
) -> None:
    """Each objective has a loss of its own below the unigram entropy; two corruptions of one have not."""

    def compared(arm: str, changes: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
        def change(content: dict[str, Any]) -> None:
            content["arms"][arm] = changes
            content["measures"] = {"reach": {"below_unigram_nats": [0.5]}}
            content["contrasts"]["primary"] = {"arm": arm, "measure": "reach.unigram-0.5.tokens"}

        return change

    trial(experiment=compared("causal", {"objective": "causal", "masking": {"predicted": 0.15}}))
    trial(experiment=compared("few", {"masking": {"predicted": 0.5}}))
    said = "reach.unigram-0.5.tokens is under each arm's own corruption, and these arms have different ones"
    assert said in refusal(trial, experiment=compared("more", {"masking": {"rate": 0.4}}))


@pytest.mark.parametrize(
    ("idle", "key"),
    [
        ({"masking": {"span": {"longest": 3}}}, "masking.span.longest"),
        ({"optimizer": {"decay_tokens": 0, "decay_shape": "cosine"}}, "optimizer.decay_shape"),
        ({"log_every_tokens": 1024}, "log_every_tokens"),
        ({"checkpoints_at": [1280]}, "checkpoints_at"),
    ],
)
def test_arms_that_differ_in_what_has_no_effect_alone(
    trial: Callable[..., study.Study], idle: dict[str, Any], key: str
) -> None:
    def change(content: dict[str, Any], twin: dict[str, Any]) -> None:
        same: dict[str, Any] = {"masking": {"rate": 0.2}}
        if "optimizer" in idle:
            same["optimizer"] = {"decay_tokens": 0}
        content["arms"] |= {"plain": same, "twin": yaml_file.merge(same, twin)}

    said = refusal(trial, experiment=lambda content: change(content, idle))
    assert f"arms.twin: differs from arms.plain in {key} alone, which changes no weight (" in said
    # What reads sentences gives the encoder longer ones than it was trained on.
    trial(experiment=lambda content: change(content, {"attention": {"window": 30}}))


def test_a_run_that_would_predict_less_than_one_token(trial: Callable[..., study.Study]) -> None:
    said = refusal(trial, experiment=setting("base/masking/rate", 1e-4))
    assert "masking.rate: of 5120 tokens less than one would be predicted (0.51); raise it" in said
    trial(experiment=setting("base/masking/rate", 1e-3))
    said = refusal(trial, experiment=setting("base/masking/predicted", 1e-4))
    assert "masking.predicted: of 5120 tokens less than one would be predicted (0.077); raise it" in said
