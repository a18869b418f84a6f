"""The commands a person types: what they show is true, and what they refuse is said in one line."""

import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import load_file

from mlm import brown, files, identity, runs, status
from mlm.errors import InputError
from mlm.files import file_sha256, write_json
from mlm.layout import RESULTS
from mlm.runs import RunFolder, find
from mlm.study import untrained_digest
from tests.mlm.places import TOPICS, copy_of, done, environment, mlm, refused, seal_sentences, write_yaml

Typed = Callable[..., "subprocess.CompletedProcess[str]"]
COMMANDS = {
    "corpus", "vocabulary", "shards", "sentences", "train", "evaluate", "probe", "fill", "mask", "runs",
    "status", "doctor", "export", "bench", "compile", "measure", "pairs", "grammar", "task", "sync",
    "plan", "power",
}  # fmt: skip


def test_help_lists_every_command(tmp_path: Path) -> None:
    said = done(mlm(tmp_path, "--help"))
    for name in COMMANDS:
        assert re.search(rf"│ {name} ", said), name
    assert "split/80-10-10/seed-0" in said


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_explains_itself(name: str, tmp_path: Path, typed: Typed) -> None:
    assert "--help" in done(typed(tmp_path, name, "--help"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fill", "no place to fill"], "has no [MASK]; write one"),
        (["fill", "caf\udce9 [MASK]"], "is not in UTF-8; "),
        (["mask", "caf\udce9"], "is not in UTF-8; "),
        (["fill", "a [MASK]", "--run", "zzz"], "zzz: no run has this folder, digest or label"),
        (["fill", "[MASK] " * 200], "tokens; this run reads 96 at most"),
        (["evaluate", "trial/none/seed-0"], "no run has this folder"),
        (["evaluate", "test/trial/100-0-0/seed-0"], "not finished; `python -m mlm train"),
        (["train", "trial", "--scale", "huge"], "experiments/scales/huge.yaml: no such file"),
        (["train", "trial", "--scale", "test", "--arm", "x"], "--arm: experiment trial has no arm 'x'; there"),
        (["train", "trial", "--scale", "test", "--seed", "9"], "--seed: experiment trial at scale test has"),
        (["train", "trial", "--scale", "test", "--set", "rate"], "--set rate: expected KEY=VALUE"),
        (["train", "trial", "--scale", "test", "--set", "masking.rate=2"], "--set: masking.rate: is 2"),
        (["train", "trial", "--scale", "test", "--set", "masking.rte=.2"], "did you mean `rate`?"),
        (["train", "trial", "--scale", "test", "--set", "vocabulary.size=90000"], "the largest unigram"),
        (["train", "trial", "--scale", "test", "--set", "corpus=bible"], "corpora/bible.yaml: no such file"),
        (["train", "trial", "--checkpoint-seconds", "-1"], "--checkpoint-seconds: is -1; give a number"),
        (["train", "trial", "--checkpoint-seconds", "nan"], "--checkpoint-seconds: is nan; give"),
        (["status", "--scale", "test", "--watch", "inf"], "--watch: is inf; give 86400 seconds or fewer"),
        (["train", "nothing"], "nothing: no run has this folder, digest or label"),
        (["train", "trail"], "`python -m mlm runs` lists them, and experiments are called trial"),
        (["train", "test/trial/80-10-10/seed-0", "--arm", "bert"], "--scale and --set go with an experiment"),
        (["mask", "--set", "split={mask: .5}"], "--set: split: mask + same + random = 0.5"),
        (["mask", "--set", "speed=3"], "--set: speed: unknown key"),
        (["status", "--scale", "laptop"], "study.json: no scale is called 'laptop'; scales: test; begun: test"),
        (["export", "test/trial/80-10-10/seed-0", "out"], "BertForMaskedLM has no positions: rotary"),
        (["vocabulary", "results", "a.model", "--kind", "word"], "vocabulary: kind: is 'word'; choose one of"),
        (["vocabulary", "results", "a.model", "--size", "4"], "vocabulary: size: is 4"),
        (["probe", "test/trial/80-10-10/seed-0", "nowhere.jsonl"], "nowhere.jsonl: no such file"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_two(
    words: list[str], said: str, place: Path, tmp_path: Path, typed: Typed
) -> None:
    result = refused(typed(place, *words))
    assert said in result
    assert all(line.startswith("error: ") for line in result.strip().splitlines())


@pytest.mark.parametrize("words", [["trian"], ["train"], ["evaluate", "x", "--sequences", "many"], ["fill"]])
def test_what_was_typed_wrongly_is_exit_code_two_as_well(words: list[str], place: Path, typed: Typed) -> None:
    refused(typed(place, *words))


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "trial/bert/seed-0", "--sequences", "0"],
        ["mask", " "],
        ["shards", "a", "b", "c", "--cores", "0"],
        ["sentences", "s", "--test-sentences", "1"],
    ],
)
def test_nothing_asked_for_is_no_traceback(words: list[str], place: Path, typed: Typed) -> None:
    result = typed(place, *words)
    refused(result)


def test_fill_answers_from_the_baseline_unless_told(
    place: Path, modern: RunFolder, bert: RunFolder, typed: Typed
) -> None:
    said = done(typed(place, "fill", "The [MASK] definition is [MASK].", "--candidates", "3"))
    assert f"trial/80-10-10/seed-0 ({modern.path.name})" in said
    answers = re.findall(r"position (\d+): (.*)", said)
    assert len(answers) == 2
    for _, line in answers:
        shares = [float(x) for x in re.findall(r"(\d+\.\d) %", line)]
        assert len(shares) == 3
        assert shares == sorted(shares, reverse=True)
    other = done(typed(place, "fill", "The [MASK].", "--run", bert.path.name[:8]))
    assert f"trial/bert/seed-0 ({bert.path.name})" in other


def realised(said: str) -> dict[str, tuple[float, float]]:
    return {
        name: (float(a), float(b))
        for name, a, b in re.findall(r"(rate|mask|same|random)\D+([\d.]+)\D+([\d.]+)", said)
    }


def test_mask_shows_what_was_asked_for_and_what_came_of_it(place: Path, typed: Typed) -> None:
    said = done(typed(place, "mask"))
    found = realised(said[said.index("asked for") :])
    assert {name: asked for name, (asked, _) in found.items()} == {
        "rate": 0.15,
        "mask": 0.8,
        "same": 0.1,
        "random": 0.1,
    }
    for asked, came in found.values():
        assert came == pytest.approx(asked, abs=0.04)
    words = ["The class definition is a statement.", "--set", "rate=1", "--set", "split={mask: 1}"]
    said = done(typed(place, "mask", *words))
    assert "[MASK]" in said.splitlines()[0]
    found = realised(said[said.index("asked for") :])
    assert found["rate"] == (1.0, 1.0)
    assert found["mask"] == (1.0, 1.0)
    one, again, other = (done(typed(place, "mask", "--seed", seed)) for seed in ("1", "1", "2"))
    assert one == again
    assert one != other


def test_runs_lists_all_with_digest_state_and_loss(place: Path, modern: RunFolder, typed: Typed) -> None:
    said = done(typed(place, "runs"))
    index = json.loads((place / "results/test/study.json").read_text())["index"]
    for cell in index:
        assert f"trial/{cell['arm']}/seed-{cell['seed']}" in said
        assert cell["digest"] in said
    assert said.count("finished") == 2
    assert said.count("waiting") == 4
    last = [json.loads(line) for line in (modern.path / "metrics.jsonl").read_text().splitlines()]
    loss = [r for r in last if r["event"] == "evaluation"][-1]["yardstick"]["loss_nats"]
    assert f"{loss:.3f}" in said
    some = done(typed(place, "runs", "trial/bert"))
    assert "trial/bert/seed-1" in some
    assert "80-10-10" not in some
    assert done(typed(place, "runs", "trail")).startswith("no run has 'trail' in its label; ")


def test_where_nothing_has_begun_what_begins_it_is_said(tmp_path: Path, typed: Typed) -> None:
    assert done(typed(tmp_path, "runs")).startswith("no runs yet; `snakemake --cores all` trains them")
    for scale in ("laptop", "gpu"):
        write_yaml(tmp_path / "experiments" / "scales" / f"{scale}.yaml", {})
    begins = "`snakemake --cores all --config scale=gpu` begins one (scales: gpu, laptop; begun: none)"
    assert begins in refused(typed(tmp_path, "status", "--scale", "gpu"))
    assert begins in refused(typed(tmp_path, "sync", "--scale", "gpu"))
    assert "`snakemake --cores all` begins one" in refused(typed(tmp_path, "status"))


def test_status_counts_states_and_progress(
    place: Path, modern: RunFolder, tmp_path: Path, typed: Typed
) -> None:
    said = done(typed(place, "status", "--scale", "test"))
    assert "6 runs: 2 finished, 4 waiting" in said
    assert said.count("100") >= 2
    seen = status.of_folder(modern.path, "x")
    assert (seen.state, seen.tokens, seen.budget_tokens) == ("finished", 5120, 5120)
    assert seen.tokens_per_second == pytest.approx(5120 / seen.train_seconds)


def test_tables_are_read_on_a_narrow_terminal(place: Path, modern: RunFolder) -> None:
    said = done(mlm(place, "runs", COLUMNS="60"))
    assert modern.path.name in said and "…" not in said and max(map(len, said.splitlines())) <= 60
    name = "split/short-first-flops/seed-0"
    one = status.RunStatus(name, Path(), "live", 12_345_678, 99_999_999, 500.0, 5.123)
    shown = io.StringIO()
    Console(file=shown, width=80).print(status.table([one], "all"))
    (row,) = (line.split() for line in shown.getvalue().splitlines() if "live" in line)
    assert row == [name, "live", "12.35", "12", "24,691", "59:10", "5.123"]


def test_status_shows_what_is_live_first_and_an_arms_waiting_runs_as_one_row() -> None:
    def run(arm: str, seed: int, state: str) -> status.RunStatus:
        return status.RunStatus(f"trial/{arm}/seed-{seed}", Path(), state, 1000, 2000, 1.0, 5.0)

    states = ["waiting", "finished", "stopped", "live", "failed"]
    runs = [run(arm, seed, state) for arm in ("a", "b") for seed, state in enumerate([*states, "waiting"])]
    shown = io.StringIO()
    Console(file=shown, width=100).print(status.table(runs, "all"))
    rows = [line.split() for line in shown.getvalue().splitlines() if "trial" in line]
    assert [row[1] for row in rows[:8]] == [s for s in ("live", "failed", "stopped", "finished") for _ in "ab"]
    assert rows[8:] == [["trial/a", "2", "waiting"], ["trial/b", "2", "waiting"]]


def test_status_tells_live_from_stopped_from_waiting(
    place: Path, modern: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy_of(place, tmp_path / "place"))
    folder = RESULTS / "runs" / modern.path.name

    def state() -> tuple[str, int]:
        seen = status.of_folder(folder, "x")
        return seen.state, seen.tokens

    assert state() == ("waiting", 0)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "000000000016.checkpoint").write_bytes(b"")
    (folder / "metrics.jsonl").write_text(
        '{"event": "train", "step": 16, "tokens": 2048, "train_seconds": 2.0}\n{"ev'
    )
    assert state() == ("stopped", 2048)
    assert status.of_folder(folder, "x").tokens_per_second == 1024
    program = f"from mlm.status import *; print(of_folder(Path('{folder}'), 'x').state)"
    with files.locked(folder / "lock"):
        told = subprocess.run(
            [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
        )
    assert told.stdout.strip() == "live"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "–"), (0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (3599, "59:59"), (3725, "1:02:05")],
)
def test_durations(seconds: float | None, said: str) -> None:
    assert status.duration(seconds) == said


def test_doctor_names_what_there_is(place: Path, typed: Typed) -> None:
    said = done(typed(place, "doctor"))
    for what in ("Python", "torch", "2.13.0", "snakemake", "processors", "disk", "a study begun here"):
        assert what in said
    without = done(mlm(place, "doctor", PATH="/nonexistent"))
    assert "commits go unrecorded" in without


def test_export_and_evaluate_of_the_command_line(
    place: Path, bert: RunFolder, tmp_path: Path, typed: Typed
) -> None:
    done(typed(place, "export", "trial/bert/seed-0", str(tmp_path / "model")))
    weights = load_file(bert.path / "weights.safetensors")
    there = load_file(tmp_path / "model" / "model.safetensors")
    assert (weights["embedding"] == there["bert.embeddings.word_embeddings.weight"]).all()
    assert "is not empty" in refused(typed(place, "export", "trial/bert/seed-0", str(tmp_path / "model")))
    output = tmp_path / "deep" / "evaluation.json"
    done(typed(place, "evaluate", "trial/bert/seed-0", "--sequences", "16", "--output", str(output)))
    content = json.loads(output.read_text())
    assert (content["run"], content["measure"], content["status"]) == (bert.path.name, "evaluation", "finished")
    shown = done(typed(place, "evaluate", "trial/bert/seed-0", "--sequences", "16"))
    for name, value in content["values"].items():
        assert re.search(rf"{re.escape(name)} +{value:.4f}", shown)


def test_probe_of_the_command_line_trained_and_untrained(
    place: Path, modern: RunFolder, tmp_path: Path, typed: Typed
) -> None:
    words = [w for w in TOPICS["class"].split() if w.isalpha()] * 4
    lines = []
    for number in range(0, len(words) - 10, 10):
        some = words[number : number + 10]
        lines.append(json.dumps(brown.Sentence(some, [w[-1] for w in some], number % 30 == 0)._asdict()))
    seal_sentences(tmp_path / "sentences.jsonl", "\n".join(lines) + "\n")
    found = {}
    sentences, untrained = str(tmp_path / "sentences.jsonl"), untrained_digest(modern.record)
    for extra in ([], ["--untrained"]):
        output = tmp_path / f"probe{len(extra)}.json"
        name = untrained if extra else "trial/80-10-10/seed-0"
        done(typed(place, "probe", name, sentences, "--output", str(output), *extra))
        found[bool(extra)] = json.loads(output.read_text())
    assert found[False]["run"] == modern.path.name
    assert found[True]["run"] == untrained
    assert found[False]["references"] == found[True]["references"]
    assert found[False]["values"] != found[True]["values"]
    assert found[False]["values"]["probe.accuracy"] > 0.3


def test_a_change_on_the_command_line_is_a_run_of_its_own(place: Path, tmp_path: Path) -> None:
    mine = copy_of(place, tmp_path / "place")
    before = {path.name for path in (mine / "results" / "runs").iterdir()}
    words = ["--scale", "test", "--set", "masking.split={mask: .5, random: .5}", "--set", "budget_tokens=2_560"]
    said = done(mlm(mine, "train", "trial", *words))
    (new,) = {path.name for path in (mine / "results" / "runs").iterdir()} - before
    run = json.loads((mine / "results" / "runs" / new / "config.json").read_text())["training"]
    assert run["masking"]["split"] == {"mask": 0.5, "same": 0.0, "random": 0.5}
    assert run["budget_tokens"] == 2560
    assert "100.0 %" in said


def test_a_run_is_found_by_folder_digest_and_label(here: Path, modern: RunFolder, bert: RunFolder) -> None:
    digest, label = modern.path.name, "trial/80-10-10/seed-0"
    names = [f"results/runs/{digest}", digest, digest[:9], label, f"test/{label}"]
    assert {find(name).path.name for name in names} == {modern.path.name}
    with pytest.raises(InputError, match=r"fits 6 runs"):
        find("")


def test_a_run_of_another_version_stops_nobody(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(copy_of(place, tmp_path / "place"))
    before = [run.path.name for run in runs.everything()]
    record = find(before[0]).record
    theirs = {**record, "training": {**record["training"], "noise": 0.1}}
    folder = Path("results/runs") / identity.digest(theirs)
    write_json(folder / "config.json", theirs)
    assert (
        [run.path.name for run in runs.everything()] == [run.path.name for run in runs.everything()] == before
    )
    assert find("trial/100-0-0/seed-0").path.name in before
    (note,) = capsys.readouterr().err.splitlines()
    assert note.startswith(f"note: 1 runs of another version are passed over, such as {folder}/config.json: ")
    for name in (str(folder), folder.name[:9]):
        with pytest.raises(runs.OtherVersion) as caught:
            find(name)
        told = str(caught.value)
        assert told.startswith(f"{folder}/config.json: training.noise: unknown key; ")
        assert "\n" not in told and "delete" not in told


def test_a_run_that_diverges_ends_well_and_says_so(place: Path, tmp_path: Path, typed: Typed) -> None:
    mine = copy_of(place, tmp_path / "place")
    words = [
        "train",
        "trial",
        "--scale",
        "test",
        "--set",
        "optimizer.learning_rate=1e6",
        "--set",
        "optimizer.warmup_tokens=0",
    ]
    said = done(mlm(mine, *words))
    assert re.search(r"diverged: loss or gradient not finite at step \d+, rate 1e\+06", said)
    folder = Path(next(p for p in (mine / "results/runs").glob("*/run.json"))).parent
    assert json.loads((folder / "run.json").read_text())["status"] == "diverged"
    output = tmp_path / "evaluation.json"
    done(typed(mine, "evaluate", str(folder), "--output", str(output)))
    assert json.loads(output.read_text()) == {
        "run": folder.name, "run_sha256": file_sha256(folder / "run.json"), "measure": "evaluation",
        "status": "diverged", "values": {},
    }  # fmt: skip
    assert "diverged" in done(typed(mine, "runs"))
    named = refused(typed(mine, "fill", "The [MASK].", "--run", folder.name))
    assert re.search(r"diverged at step \d+, so it answers nothing", named)
    assert "no run has finished yet" in refused(typed(mine, "fill", "The [MASK]."))


def test_a_mistyped_word_costs_no_prepared_data(
    place: Path, modern: RunFolder, tmp_path: Path, typed: Typed
) -> None:
    known = modern.record["data"]
    data = Path(shutil.copytree(place / "results" / "data", tmp_path / "data"))
    corpus, shards = data / "corpora" / known["corpus"], data / "shards" / known["shards"]
    vocabulary = str(data / "vocabularies" / known["vocabulary"] / "vocabulary.model")
    before = {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
    refused(typed(place, "corpus", "refrence", str(corpus)))
    refused(typed(place, "shards", str(corpus), "no/such.model", str(shards)))
    refused(typed(place, "shards", str(tmp_path), vocabulary, str(shards)))
    assert {path: path.read_bytes() for path in before} == before
    (corpus / "corpus.json").write_text("{}")
    done(typed(place, "corpus", "reference", str(corpus)))
    (shards / "shards.json").write_text("{}")
    done(typed(place, "shards", str(corpus), vocabulary, str(shards)))
    assert {path: path.read_bytes() for path in before} == before, "asked for by name, both are made anew"


@pytest.mark.parametrize("command", ["mlm --help", "mlm plan --help", "analysis --help", "mlm doctor"])
@pytest.mark.parametrize("reader", ["true", "head --lines=1"])
def test_of_a_reader_that_leaves_nothing_is_said(command: str, reader: str, here: Path) -> None:
    line = f"{sys.executable} -m {command} | {reader}"
    done = subprocess.run(["bash", "-c", line], env=environment(), capture_output=True, text=True, check=True)
    assert done.stderr == ""


@pytest.mark.parametrize("command", ["mlm --help", "analysis --help", "mlm doctor"])
def test_what_cannot_be_printed_on_a_full_disk_is_told_in_a_line(command: str, here: Path) -> None:
    line = f"{sys.executable} -m {command} > /dev/full"
    full = subprocess.run(["bash", "-c", line], env=environment(), capture_output=True, text=True, check=False)
    assert full.returncode == 2, full.stderr
    assert "No space left on device" in full.stderr and "Traceback" not in full.stderr


def test_refused_with_nobody_to_read_why_it_still_ends_with_status_2(here: Path) -> None:
    line = f"{sys.executable} -m mlm train nosuch 2>&1 | true; exit ${{PIPESTATUS[0]}}"
    assert subprocess.run(["bash", "-c", line], env=environment(), check=False).returncode == 2
