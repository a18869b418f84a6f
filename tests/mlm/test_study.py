"""Files come to runs: what is the same run has the same digest, and what is wrong is refused by name."""

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from analysis.study import Study as Planned
from mlm import compiled, config, devices, files, identity, single, status, study, yaml_file
from mlm.errors import Damaged, InputError
from mlm.planner import load_study
from tests.mlm.places import EXPERIMENT, ROOT, digests, environment, refusal, setting

RUN = ("digest", "status", "files", "tokens", "wall_seconds")


def test_arms_by_seeds_with_everything_resolved(trial: Callable[..., study.Study]) -> None:
    found = trial()
    assert [(c.arm, c.seed) for c in found.cells] == [
        (arm, seed) for arm in EXPERIMENT["arms"] for seed in (0, 1)
    ]
    assert len(found.runs) == 6
    for cell in found.cells:
        run = found.runs[cell.digest]
        assert run.digest == identity.digest(run.record())
        assert run.config.seed == cell.seed
    bert = found.runs[digests(found)["bert", 0]].config.encoder
    assert (bert.positions, bert.norm, bert.dropout) == ("learned", "layer", 0.1)  # from the arm
    assert (bert.width, bert.heads) == (32, 2)  # from the scale
    masked = found.runs[digests(found)["100-0-0", 0]].config.masking
    assert masked.split == config.Split(mask=1.0)  # a split is replaced as a unit
    assert masked.rate == 0.15  # from the base


def test_later_layers_win(trial: Callable[..., study.Study], tmp_path: Path) -> None:
    """Defaults ← scale ← base ← arm ← command line."""

    def rate(**changes: Any) -> float:
        found = trial(**changes)
        return found.runs[digests(found)["80-10-10", 0]].config.masking.rate

    no_base = setting("base", {})
    assert rate(experiment=no_base) == config.Masking().rate
    assert rate(experiment=no_base, scale=setting("run/masking", {"rate": 0.2})) == 0.2
    assert (
        rate(experiment=setting("base/masking/rate", 0.3), scale=setting("run/masking", {"rate": 0.2})) == 0.3
    )
    trial(experiment=setting("arms/80-10-10/masking/rate", 0.4))
    assert next(iter(load_study("test").runs.values())).config.masking.rate == 0.4
    over = load_study("test", ["trial"], {"masking": {"rate": 0.5}, "sequence_length": 8})
    assert {run.config.masking.rate for run in over.runs.values()} == {0.5}


def test_seeds_may_be_counted_or_named_and_a_scale_may_take_fewer(trial: Callable[..., study.Study]) -> None:
    assert {c.seed for c in trial(experiment=setting("seeds", [3, 17, 5])).cells} == {3, 17, 5}
    assert {c.seed for c in trial(setting("seeds_at_most", 2), setting("seeds", [3, 17, 5])).cells} == {3, 17}


def test_arms_of_one_seed_share_the_untrained_encoder(trial: Callable[..., study.Study]) -> None:
    found = {(c.arm, c.seed): c.untrained for c in trial().cells}
    assert found["80-10-10", 0] == found["100-0-0", 0]
    assert len({found["80-10-10", 0], found["80-10-10", 1], found["bert", 0]}) == 3


# Digests


def test_an_arm_that_two_experiments_share_is_one_run(trial: Callable[..., study.Study]) -> None:
    other = {
        **EXPERIMENT,
        "title": "Another",
        "base": {},
        "baseline": "usual",
        "arms": {
            "usual": {"masking": {"rate": 0.15, "split": {"random": 0.1, "same": 0.1, "mask": 0.8}}},
            "much": {"masking": {"rate": 0.4}},
        },
        "contrasts": {"primary": {"arm": "much"}},
        "primary_measure": "test.yardstick.accuracy",
    }
    found = trial(other=other)
    mine, theirs = digests(found), digests(found, "other")
    assert theirs["usual", 0] == mine["80-10-10", 0]
    assert theirs["usual", 1] == mine["80-10-10", 1]
    assert theirs["much", 0] not in mine.values()
    assert len(found.runs) == 8


def test_names_measures_contrasts_and_words_are_in_no_digest(trial: Callable[..., study.Study]) -> None:
    before = sorted(digests(trial()).values())

    def rename(content: dict[str, Any]) -> None:
        content["arms"]["usual"] = content["arms"].pop("80-10-10")
        content |= {
            "baseline": "usual",
            "title": "Other",
            "claim": "Another.",
            "primary_measure": "test.yardstick.accuracy",
        }
        content["contrasts"] = {"primary": {"arm": "bert", "against": "100-0-0"}}

    def measure(content: dict[str, Any]) -> None:
        content |= {"evidence": True, "checkpoint_seconds": 99.0}
        content["measures"] = {
            "evaluation": {"sequences": 7},
            "probe": {"train_sentences": 77, "test_sentences": 60},
        }

    after = trial(measure, rename)
    assert sorted(digests(after).values()) == before
    first = [{one.name: one.file for one in found.measures["trial"]} for found in (after, trial())]
    assert not set(first[0].values()) & set(first[1].values())


def test_a_changed_value_changes_that_arms_digests_alone(trial: Callable[..., study.Study]) -> None:
    before = digests(trial())
    after = digests(trial(experiment=setting("arms/100-0-0/masking/split", {"mask": 0.99, "same": 0.01})))
    assert {arm for (arm, seed) in before if before[arm, seed] != after[arm, seed]} == {"100-0-0"}
    assert all(before["100-0-0", seed] != after["100-0-0", seed] for seed in (0, 1))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("run/optimizer/learning_rate", 1e-3), ("run/sequence_length", 32), ("run/budget_tokens", 4096),
        ("run/vocabulary/size", 401), ("run/encoder/heads", 4), ("run/curve/sequences", 9),
        ("numerics/dtype", "bfloat16"),
    ],
)  # fmt: skip
def test_what_the_bits_depend_on_is_in_every_digest(
    trial: Callable[..., study.Study], path: str, value: Any
) -> None:
    before, after = digests(trial()), digests(trial(setting(path, value)))
    assert not set(before.values()) & set(after.values())


def test_changed_text_is_other_data_and_other_runs(trial: Callable[..., study.Study], tmp_path: Path) -> None:
    before = digests(trial())
    with (tmp_path / "text" / "import.txt").open("a") as stream:
        stream.write("One more line.\n")
    after = load_study("test")
    assert not set(before.values()) & set(digests(after).values())


def test_the_same_number_written_otherwise_is_the_same_run(trial: Callable[..., study.Study]) -> None:
    before = digests(trial())
    path = Path("experiments/scales/test.yaml")
    text = path.read_text()
    assert "learning_rate: 0.003" in text
    path.write_text(
        text.replace("0.003", "3e-3").replace("budget_tokens: 5120", "budget_tokens: 5_120.0 # tokens")
    )
    assert digests(load_study("test")) == before


def code(root: Path) -> str:
    program = "from mlm import golden, identity; print(identity.code_hash(golden.CODE, golden.PACKAGES))"
    env = environment(PYTHONPATH=str(root))
    return subprocess.run(
        [sys.executable, "-c", program], cwd=root, env=env, capture_output=True, text=True, check=True
    ).stdout


def test_rewording_code_changes_no_hash_and_changing_it_does(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "mlm", tmp_path / "mlm", ignore=shutil.ignore_patterns("__pycache__"))
    masking = tmp_path / "mlm" / "masking.py"
    text = masking.read_text()
    before = code(tmp_path)
    reworded = text.replace('"""(tokens,', '"""Reworded: (tokens,', 1).replace(
        "import torch\n", "import torch  # why\n\n\n", 1
    )
    masking.write_text("# A comment.\n" + reworded)
    assert code(tmp_path) == before
    assert "drawn >= split.mask)" in text
    masking.write_text(text.replace("drawn >= split.mask)", "drawn > split.mask)"))
    assert code(tmp_path) != before
    masking.write_text(text)
    for name, matters in (
        ("tracking", False),
        ("__main__", False),
        ("look", False),
        ("batches", True),
        ("encoder", True),
    ):
        path = tmp_path / "mlm" / f"{name}.py"
        whole = path.read_text()
        path.write_text(whole + "\nadded = 1\n")
        assert (code(tmp_path) != before) == matters, name
        path.write_text(whole)


def test_planning_loads_no_torch(trial: Callable[..., study.Study]) -> None:
    trial()
    program = (
        "import sys; from mlm.planner import load_study; load_study('test').write(); print(sorted(sys.modules))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
    )
    loaded = set(yaml.safe_load(said.stdout))
    assert "mlm.planner" in loaded
    assert not loaded & {"torch", "pandas", "wandb", "transformers", "datasets", "sentencepiece", "scipy"}


# What is written


def test_configurations_are_written_once_and_labels_gathered(trial: Callable[..., study.Study]) -> None:
    found = trial()
    found.write()
    digest = digests(found)["80-10-10", 0]
    path = Path(f"results/runs/{digest}/config.json")
    before = path.stat().st_mtime_ns
    assert identity.digest(json.loads(path.read_text())) == digest
    again = trial(
        experiment=lambda content: (
            content["arms"].update({"usual": content["arms"].pop("80-10-10")})
            or content.update(baseline="usual")
        )
    )
    again.write()
    assert path.stat().st_mtime_ns == before
    labels = json.loads(path.with_name("labels.json").read_text())
    assert labels == [["test", "trial", "usual", 0]]
    index = json.loads(Path("results/test/study.json").read_text())
    assert {cell["arm"] for cell in index["index"]} == {"usual", "100-0-0", "bert"}
    contrast = index["experiments"]["trial"]["contrasts"][0]
    assert (contrast["against"], contrast["measure"], contrast["family"]) == (
        "usual",
        "probe.accuracy",
        "primary",
    )


def test_planning_one_run_by_hand_keeps_who_else_asked_for_it(trial: Callable[..., study.Study]) -> None:
    found = trial(other={**EXPERIMENT, "title": "Another"})
    found.write()
    path = found.runs[digests(found)["80-10-10", 0]].folder / "labels.json"
    before = json.loads(path.read_text())
    assert {label[1] for label in before} == {"trial", "other"}
    single.plan("other", "80-10-10", 0, "test", [])
    assert sorted(json.loads(path.read_text())) == sorted(before)


def test_what_is_left_out_keeps_the_labels_of_its_trials_and_pilot(trial: Callable[..., study.Study]) -> None:
    tune = {"learning_rates": [1e-3, 2e-3, 4e-3], "seeds": [100, 101]}
    other = {**EXPERIMENT, "tune": tune, "pilot": [200, 201, 202, 203, 204]}
    found = trial(other=other)
    found.write()
    names = {"other", "other-tune", "other-pilot"}
    paths = {run.folder / "labels.json" for run in found.runs.values()}
    before = {path: sorted(json.loads(path.read_text())) for path in paths}
    assert names == {label[1] for labels in before.values() for label in labels} - {"trial"}
    again = trial(other={**other, "primary_measure": "pairs.accuracy"})
    assert again.left_out.keys() == {"other"}
    again.write()
    assert {path: sorted(json.loads(path.read_text())) for path in paths} == before


def test_compiling_is_not_taken_back_without_a_word(
    trial: Callable[..., study.Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    undecided = setting("numerics", None)
    made = config.Numerics(device="cpu", dtype="float32", path="compiled")
    monkeypatch.setattr(devices, "detect", lambda _: made)
    trial(undecided).write()
    said = refusal(trial, scale=lambda scale: (undecided(scale), scale.update(compile=False)))
    assert "experiments/scales/test.yaml: compile: is false" in said and "results/test/numerics.json" in said
    assert trial(undecided).numerics == made


def test_stated_numerics_without_a_path_go_the_detected_ones_way_and_keep_it(
    trial: Callable[..., study.Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for a GPU that the planning machine has not."""

    def stated(compile_steps: bool = True, **more: str) -> Callable[[dict], None]:
        numerics = {"device": "cuda", "dtype": "bfloat16", **more}
        return lambda scale: scale.update(numerics=numerics, compile=compile_steps)

    monkeypatch.setattr(compiled, "missing", lambda cuda: None if cuda else "C++ compiler")
    assert trial(stated(path="eager")).numerics.path == "eager"
    assert trial(stated(compile_steps=False)).numerics.path == "eager"
    found = trial(stated())
    assert (found.numerics.path, found.numerics.deterministic) == ("compiled", True)
    found.write()
    monkeypatch.setattr(compiled, "missing", lambda cuda: "Python package triton")
    assert digests(trial(stated())) == digests(found), "another machine does not change it"
    assert "numerics: " in refusal(trial, scale=stated(path="eager"))
    assert "compile: is false" in refusal(trial, scale=stated(compile_steps=False))


@pytest.mark.parametrize("content", ["{}", "[]", '{"training": 7}'])
def test_the_status_names_a_configuration_that_is_none(trial: Callable[..., study.Study], content: str) -> None:
    found = trial()
    found.write()
    folder = found.runs[digests(found)["80-10-10", 0]].folder
    (folder / "metrics.jsonl").write_text('{"tokens": 7, "train_seconds": 1.0}\n7\n[]\n')
    (folder / "run.json").write_text(json.dumps({key: {} for key in RUN}))
    assert status.of_folder(folder, "a").tokens == 7
    (folder / "config.json").write_text(content)
    with pytest.raises(Damaged, match=r"config\.json: damaged, not the configuration of a run; delete it"):
        status.of_folder(folder, "a")


def test_a_registration_that_says_nothing_is_written_anew(trial: Callable[..., study.Study]) -> None:
    found = trial()
    found.write()
    path = Path("results/test/registration/trial.json")
    before = path.read_text()
    path.write_text('{"first_run": null}')
    found.write()
    assert path.read_text() == before


def test_numerics_are_fixed_once_kept_and_not_contradicted(
    trial: Callable[..., study.Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    undecided = setting("numerics", None)
    monkeypatch.setattr(devices, "detect", lambda _: config.Numerics(device="cpu", dtype="bfloat16"))
    found = trial(undecided)
    before = digests(found)
    assert found.numerics.dtype == "bfloat16"
    found.write()
    monkeypatch.setattr(devices, "detect", lambda _: config.Numerics(device="cuda", dtype="bfloat16"))
    assert digests(trial(undecided)) == before, "another machine does not change a study that has begun"
    said = refusal(trial)
    assert "experiments/scales/test.yaml: numerics" in said
    assert "results/test/numerics.json" in said
    fixed = Path("results/test/numerics.json")
    for harmed in ("{", '{"device": "abacus", "dtype": "float32"}'):
        fixed.write_text(harmed)
        with pytest.raises((InputError, Damaged), match=r"numerics\.json"):
            trial(undecided)


def test_on_cuda_kernels_are_deterministic_unless_stated_otherwise_or_begun_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = config.Numerics(device="cuda", dtype="bfloat16")
    fast = config.Numerics(device="cuda", dtype="bfloat16", path="eager", deterministic=False)
    monkeypatch.setattr(devices, "cuda_devices", lambda: 1)
    assert devices.detect(compile_steps=False).deterministic
    assert devices.completed(cuda, compile_steps=False).deterministic
    assert devices.completed(fast, compile_steps=True) == fast
    assert devices.completed(cuda, compile_steps=True, begun=fast) == fast
    monkeypatch.setattr(devices, "cuda_devices", lambda: 0)
    assert not devices.detect(compile_steps=False).deterministic


def test_attention_on_cuda_is_none_that_plans_for_every_number_of_targets() -> None:
    program = (
        "import torch; from mlm import config, devices; devices.prepare(config.Numerics(device='cuda', "
        "dtype='bfloat16', deterministic=True)); print(torch.backends.cuda.cudnn_sdp_enabled(), "
        "torch.backends.cuda.flash_sdp_enabled(), torch.are_deterministic_algorithms_enabled())"
    )
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "True", "True"]


def test_numerics_that_this_machine_has_not_stop_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "cuda_devices", lambda: 0)
    monkeypatch.setattr(devices, "cpu_flags", frozenset)
    with pytest.raises(InputError, match=r"no CUDA device is here.*here\.json fixes the numerics"):
        devices.check(config.Numerics(device="cuda", dtype="bfloat16"), "here.json")
    with pytest.raises(InputError, match="AMX"):
        devices.check(config.Numerics(device="cpu", dtype="bfloat16"), "here.json")
    devices.check(config.Numerics(device="cpu", dtype="float32"), "here.json")
    monkeypatch.setattr(devices, "cuda_devices", lambda: 1)
    monkeypatch.setattr(devices, "cuda_bfloat16", lambda: False)
    with pytest.raises(InputError, match=r"GPUs that compute in bfloat16.*here\.json fixes the numerics"):
        devices.check(config.Numerics(device="cuda", dtype="bfloat16"), "here.json")
    devices.check(config.Numerics(device="cuda", dtype="float32"), "here.json")
    monkeypatch.setattr(devices, "cuda_devices", lambda: 0)
    plain = config.Numerics(device="cpu", dtype="float32")
    assert devices.detect(compile_steps=False) == plain
    assert devices.told(plain, compile_steps=False).endswith(
        "float32 (here is no AMX, with which bfloat16 would be faster), their steps not compiled."
    )
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "not compiled (here is no C++ compiler" in devices.told(plain)
    monkeypatch.setattr(devices, "cpu_flags", lambda: frozenset({"amx_bf16"}))
    fast = config.Numerics(device="cpu", dtype="bfloat16", path="compiled")
    assert devices.told(fast) == "Runs compute on cpu in bfloat16, their steps compiled."


def test_the_status_is_of_what_the_scale_names_and_of_what_was_begun(trial: Callable[..., study.Study]) -> None:
    arms = {"80-10-10": {}, "often": {"masking": {"rate": 0.5}}}
    other = {**EXPERIMENT, "arms": arms, "contrasts": {"primary": {"arm": "often"}}}
    found = trial(other=other)
    found.write()
    own = {cell.digest for cell in found.cells if cell.experiment == "trial"}
    more = {cell.digest for cell in found.cells if cell.experiment == "other"} - own
    assert {run.folder.name for run in status.begun("test")[1]} == own
    begun = found.runs[min(more)].folder
    (begun / "checkpoints").mkdir()
    (begun / "checkpoints" / "0.checkpoint").touch()
    assert {run.folder.name for run in status.begun("test")[1]} == own | more


def test_how_far_an_experiment_has_come_is_told_by_its_files(trial: Callable[..., study.Study]) -> None:
    found = trial()
    found.write()
    first, second, *_ = sorted({cell.digest: found.runs[cell.digest].folder for cell in found.cells}.values())
    assert status.ended("test", "trial") == (0, 0, 6)
    (first / "run.json").write_text("not read")
    (second / "lock").touch()
    assert status.ended("test", "trial") == (1, 0, 6)
    with files.locked(second / "lock"):
        program = "from mlm import status; print(*status.ended('test', 'trial'))"
        command = [sys.executable, "-c", program]
        told = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["1", "1", "6"]
    assert status.Ended(1, 1, 6).seconds_left(10) == 25
    Path("results/test/study.json").write_text('{"named": [], "index": [{}]}')
    with pytest.raises(Damaged, match="not the index of a study; delete it"):
        status.ended("test", "trial")


MAPPINGS = st.dictionaries(
    st.sampled_from("abc"), st.integers() | st.dictionaries(st.sampled_from("xy"), st.integers())
)


@given(MAPPINGS, MAPPINGS)
def test_merging_is_key_by_key_and_changes_no_layer(one: dict, other: dict) -> None:
    kept = copy.deepcopy((one, other))
    merged = yaml_file.merge(one, other)
    assert (one, other) == kept
    assert yaml_file.merge(merged, other) == merged
    assert yaml_file.merge({}, one) == yaml_file.merge(one, {}) == one
    for key in {**one, **other}:
        if (
            key not in other
            or key not in one
            or not isinstance(other[key], dict)
            or not isinstance(one[key], dict)
        ):
            assert merged[key] == other.get(key, one.get(key))
        else:
            assert merged[key] == {**one[key], **other[key]}


def test_the_projects_own_files_are_valid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("experiments").symlink_to(ROOT / "experiments")
    for scale in sorted(Path("experiments/scales").glob("*.yaml")):
        found = load_study(scale.stem)
        assert found.cells
        Planned.model_validate(json.loads(json.dumps(found.record())))  # what the analysis reads
        for taken, _ in (*found.measured(), *found.measured(untrained=True)):
            assert len({one.name for one in taken}) == len(taken), "a job takes a name once"
    split = load_study("laptop", ["split"])
    assert len({c.arm for c in split.cells if c.experiment == "split"}) == 7
    own = [cell for cell in split.cells if cell.experiment == "split"]
    assert len({cell.digest for cell in own}) == len(own) == 56
    assert {run.config.tokens_per_step * run.config.steps for run in split.runs.values()} == {3_002_368}
    rows = split.contrast_rows("split")
    assert [r["arm"] for r in rows if r["family"] == "primary"] == ["100-0-0"]
    assert {r["against"] for r in rows} == {"80-10-10"}
    assert len([r for r in rows if r["family"] == "secondary"]) == 4
