"""The benchmark measures what it says: the same shape for all, masks that mask, ratios of its own figures."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from analysis import figure_bench
from mlm import (
    bench,
    bench_parts,
    bench_peers,
    bench_process,
    bench_quality,
    bench_shapes,
    config,
    devices,
    evaluate,
    flops,
    log_head,
    planner,
)
from mlm.bench_peers import OURS, PEERS, Peer
from mlm.bench_process import Child, Failed
from mlm.errors import InputError
from mlm.runs import RunFolder
from mlm.shards import Shard
from tests.mlm.places import found_study

TOY = bench_shapes.Shape(2, 32, 4, 48, 16, 8, "char", None)
STUDY = bench_shapes.Study("trial", "test")
BRIEF = bench.Effort(rounds=2, turn_seconds=0.1, part_seconds=0.01)


def test_the_whole_benchmark_of_a_toy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everyone who is installed competes; who is missing or fails is named, and the rest goes on."""
    monkeypatch.chdir(found_study(tmp_path / "study"))
    monkeypatch.setitem(bench_shapes.SHAPES, "toy", TOY)
    monkeypatch.setitem(PEERS, "absent", Peer("bench_peers:ours", "not installed", ("no_such_package",)))
    monkeypatch.setitem(PEERS, "broken", Peer("bench_peers:ours", "unknown to its own process"))
    path = tmp_path / "bench.json"
    path.write_text('{"ratios": {"older": {"peer": 2.0}}, "shapes": {}}')

    bench.run(["toy"], BRIEF, path, quality=False, study=STUDY)

    said = capsys.readouterr().out
    assert "absent: left out; no_such_package not installed (`make bench-setup` installs the peers)" in said
    assert "broken: left out; ended early" in said
    content = json.loads(path.read_text())
    toy = content["shapes"]["toy"]
    assert content["ratios"]["older"] == {"peer": 2.0}
    competed = [name for name, peer in PEERS.items() if not peer.missing and name != "broken"]
    assert list(toy["throughput"]) == competed
    assert list(content["ratios"]["toy"]) == [name for name in competed if name != OURS]
    ours, theirs = (toy["throughput"][name] for name in (OURS, "hf-bf16"))
    assert theirs["attention"] in ("eager", "sdpa") and f"hf-bf16, {theirs['attention']} " in said
    low, high = sorted(a / b for a, b in zip(ours["rounds"], theirs["rounds"], strict=True))
    assert content["ratios"]["toy"]["hf-bf16"] == pytest.approx((low + high) / 2)
    assert toy["encoding"]["equal"]
    assert toy["encoding_all_cores"]["equal"]
    assert {"mlm", "hf-collator"} <= set(toy["masking"])
    assert toy["start"]["start_seconds"] > 0 and toy["start"]["cpu_seconds"] > 0
    assert "ours in float32, " in said
    assert "Runs compute on cpu in float32" in said
    assert f"{OURS}: this package, as a study trains here" in said
    assert ours["utilisation"] > ours["executed_utilisation"] > 0
    assert theirs["utilisation"] == theirs["executed_utilisation"]
    masking = toy["masking_share"]
    assert masking.keys() >= {"mlm", "hf-collator, tensors"}
    assert masking["mlm"] == pytest.approx(ours["tokens_per_second"] / toy["masking"]["mlm"])
    assert "dropout: peers .1" in " ".join(said.split())
    assert "…" not in said and "executed" in said  # no column is cut where it is no terminal
    assert not list(Path("results/runs").iterdir()), "a benchmark is no run of the study"

    axes = figure_bench.throughput(content["shapes"]).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == competed


def test_who_takes_much_longer_than_a_turn_has_one_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also in the round in which the others are at other places; its ratio is of the rounds that both had."""
    asked: list[str] = []

    class Told:
        def __init__(self, _target: str, _log: Path, *, contestant: str, **_: object) -> None:
            self.name = contestant

        def hear(self) -> dict[str, object]:
            return {"attention": None}

        def warnings(self) -> list[str]:
            return []

        def ask(self, seconds: float) -> dict[str, float]:
            asked.append(self.name)
            spent = seconds * (1 + bench.PATIENCE * (self.name == "slow"))
            return {"tokens": 100.0 * len(asked), "seconds": spent, "cpu_share": 1.0, "memory_bytes": 1}

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(bench, "Child", Told)
    peers = {name: Peer("bench_peers:ours", name) for name in (OURS, "slow", "fast")}
    monkeypatch.setattr(bench, "PEERS", peers)
    console = Console(highlight=False, soft_wrap=True)
    told = bench.throughput(tmp_path, tmp_path, bench.Effort(rounds=3, turn_seconds=2.0), console)
    assert asked == [OURS, "slow", "fast", "fast", OURS, OURS, "fast"]
    assert {name: len(one["rounds"]) for name, one in told.items()} == {OURS: 3, "slow": 1, "fast": 3}
    ratio = told[OURS]["rounds"][0] / told["slow"]["rounds"][0]
    assert bench.ratios(told)["slow"] == {"median": ratio, "low": ratio, "high": ratio}
    assert "slow: a turn took 22 s: it has no other" in capsys.readouterr().out


@pytest.mark.parametrize("written", ["[1]", "3", "{}", '{"ratios": {}, "shapes": null}'])
def test_a_file_of_something_else_is_refused_before_anything_is_measured(tmp_path: Path, written: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(written)
    with pytest.raises(InputError, match=r"other\.json: not what a benchmark writes; name another file"):
        bench.run(["tiny"], BRIEF, path, quality=False, study=STUDY)
    assert path.read_text() == written


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "bench.json"
    with pytest.raises(InputError, match=r"--json .*/file/bench\.json: cannot be written .*name another file"):
        bench.run(["tiny"], BRIEF, path, quality=False, study=STUDY)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> config.Numerics:
    """Numerics of a machine that has neither AMX nor a compiler, on which everything is planned."""
    monkeypatch.setattr(devices, "cpu_flags", frozenset)
    monkeypatch.setenv("CXX", "no-such-compiler")
    numerics = config.Numerics(device="cpu", dtype="float32", path="eager")
    planned = SimpleNamespace(numerics=numerics, scale=SimpleNamespace(compile=True))
    monkeypatch.setattr(planner, "load_study", lambda *_: planned)
    return numerics


@pytest.mark.usefixtures("plain")
def test_a_shape_is_shown_and_written_before_the_next_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bench.json"
    speed = {"attention": None, "tokens_per_second": 1234.0, "rounds": [1234.0], "cpu_share": 1.0}

    def measured(name: str, shape: bench_shapes.Shape, *_: object) -> dict[str, object]:
        if name == "mini":
            raise InputError("no room")
        one = speed | {"parameters": 10**6, "memory_bytes": 10**6}
        known = {"shape": shape._asdict(), "dropout": 0.0, "spread": {}, "masking_share": {}}
        return known | {"throughput": {OURS: one}}

    monkeypatch.setattr(bench, "measure", measured)
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(InputError, match="no room"):
        bench.run(["tiny", "mini"], BRIEF, path, quality=False, study=STUDY)
    assert list(json.loads(path.read_text())["shapes"]) == ["tiny"]
    said = capsys.readouterr().out
    assert said.count("here is no AMX") == said.count("here is no C++ compiler (no-such-compiler)") == 1
    assert said.index("here is no AMX") < said.index("tiny: 2 layers") < said.index("1,234")


@pytest.mark.usefixtures("plain")
def test_what_has_ended_of_time_to_quality_is_kept_when_it_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, stopped = tmp_path / "bench.json", [True]
    earlier: dict[str, Any] = {"ratios": {}, "shapes": {}, "quality": {"reference_seconds": 2.0}}
    path.write_text(json.dumps(earlier))
    found: dict[str, Any] = {"levels": [], "reference_seconds": 1.0, "contestants": {}}

    def measured(*_: object) -> Iterator[dict[str, object]]:
        yield found
        if stopped[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(bench, "plan", lambda *_: tmp_path)
    monkeypatch.setattr(bench_quality, "measure", measured)
    with pytest.raises(KeyboardInterrupt):
        bench.run([], BRIEF, path, quality=True, study=STUDY)
    written = json.loads(path.read_text())
    ended = {"machine": written["quality_so_far"]["machine"]} | found
    assert written == earlier | {"quality_so_far": ended}, "what is whole stays until another is"
    stopped[0] = False
    bench.run([], BRIEF, path, quality=True, study=STUDY)
    assert json.loads(path.read_text()) == earlier | {"quality": ended}


def test_the_code_is_told_with_its_changes_and_without_git(
    plain: config.Numerics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_head, "git", lambda: {"commit": 40 * "a", "dirty": True})
    told = bench.taken_on(plain)
    assert told["code"].endswith(f", commit {12 * 'a'}, changed since")
    assert told["versions"].keys() >= {"python", "torch", *bench.PEER_PACKAGES}
    monkeypatch.undo()
    monkeypatch.setenv("PATH", "")
    assert "commit" not in bench.taken_on(plain)["code"]


def test_what_a_process_of_its_own_warns_of_and_refuses_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "works.py").write_text(
        "import sys\nfrom mlm.errors import InputError\n"
        "def warn(channel):\n"
        "    print('noise\\nwarning: slower', file=sys.stderr, flush=True)\n    channel.say({})\n"
        "def refuse(channel):\n    raise InputError('x.yaml: key: wrong; mend it')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Child("works:warn", tmp_path / "warned.log") as child:
        child.hear()
        assert child.warnings() == ["warning: slower"]
    with Child("works:refuse", tmp_path / "log") as child, pytest.raises(Failed) as failed:
        child.hear()
    assert "its last line: error: x.yaml: key: wrong; mend it (" in str(failed.value)


def test_what_one_core_does_is_timed_in_seconds_of_cpu() -> None:
    spent = bench_parts._seconds({"asleep": lambda: time.sleep(0.02)}, 0.05)
    assert 0 < spent["asleep"] < 0.01


def test_an_unknown_shape_is_told_of_and_the_others_are_measured() -> None:
    said: list[str] = []
    assert list(bench_shapes.chosen(["mini", "huge", "tiny"], said.append)) == ["mini", "tiny"]
    assert said == ["--shape: 'huge' is unknown and left out; choose from tiny, mini, original"]
    with pytest.raises(InputError, match="--shape: 'huge' is unknown; choose from tiny, mini, original"):
        bench_shapes.chosen(["huge"], said.append)


def test_nobody_always_has_the_same_turn_and_warnings_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    turns: list[str] = []

    class Told:
        def __init__(self, _target: str, _log: Path, *, contestant: str, run: str) -> None:
            self.name = contestant

        def hear(self) -> dict[str, object]:
            return {"parameters": 1, "attention": None}

        def warnings(self) -> list[str]:
            return ["warning: [/slow]"] if self.name == "a" else []

        def ask(self, seconds: float) -> dict[str, float]:
            turns.append(self.name)
            return {"tokens": 1, "seconds": seconds, "cpu_share": 1.0, "memory_bytes": 1}

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(bench, "Child", Told)
    monkeypatch.setattr(bench, "PEERS", {name: Peer("", "") for name in "abc"})
    bench.throughput(tmp_path, tmp_path, bench.Effort(rounds=4), Console(width=100))
    assert "".join(turns) == "abcbcacababc"
    assert capsys.readouterr().out.count("a: warning: [/slow]\n") == 1


@pytest.mark.usefixtures("here")
def test_the_bare_loop_takes_the_faster_attention(modern: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stated, none is tried; else both are, and training begins as if none had been."""
    told: list[bench_peers.Learner] = []
    for stated, times in (("sdpa", []), (None, [0, 5, 10, 11, 20, 26, 30, 32])):
        ticks = iter(times)
        monkeypatch.setattr(bench_process, "clock", lambda ticks=ticks: next(ticks))
        bench_peers.hf_loop(modern, told.append, steps=1, attention=stated)
    assert [one.attention for one in told] == ["sdpa", "eager"]
    tokens = torch.arange(config.N_SPECIAL, config.N_SPECIAL + 8)[None]
    first, second = (one.logits(tokens) for one in told)
    assert torch.allclose(first, second, atol=0.05)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_bare_loop_computes_in_the_stated_type(modern: RunFolder, dtype: str) -> None:
    told: list[bench_peers.Learner] = []
    bench_peers.hf_loop(modern, told.append, steps=1, attention="sdpa", dtype=dtype)
    tokens = torch.arange(config.N_SPECIAL, config.N_SPECIAL + 8)[None]
    assert str(told[0].logits(tokens).dtype) == f"torch.{dtype}"


def test_a_function_that_ends_early_is_told_with_its_last_line(tmp_path: Path) -> None:
    with Child("mlm.bench_parts:nothing", tmp_path / "log") as child, pytest.raises(Failed, match="nothing"):
        child.hear()


def _attention_and_feedforward(shape: config.Encoder) -> int:
    width, inner = shape.width, shape.feedforward_width
    return 4 * (width * width + width) + 2 * width * inner + inner + width + 2 * 2 * width


@pytest.mark.usefixtures("here")
def test_hugging_faces_model_has_the_stated_shape(modern: RunFolder) -> None:
    shape, n_tokens = modern.config.encoder, modern.tokenizer().size
    width = shape.width
    embeddings = (n_tokens + shape.max_positions + 2) * width + 2 * width
    head = width * width + width + 2 * width + n_tokens
    expected = embeddings + shape.layers * _attention_and_feedforward(shape) + head
    assert bench_peers.count(bench_peers.bert(modern)) == expected


@pytest.mark.usefixtures("here")
def test_labmls_model_has_the_stated_shape(modern: RunFolder) -> None:
    pytest.importorskip("labml_nn")
    from mlm import bench_labml

    shape, n_tokens = modern.config.encoder, modern.tokenizer().size
    width = shape.width
    ends = n_tokens * width + 2 * width + n_tokens * width + n_tokens
    expected = ends + shape.layers * _attention_and_feedforward(shape)
    assert bench_peers.count(bench_labml.model(modern)) == expected


@pytest.mark.usefixtures("here")
def test_the_peers_masks_mask(modern: RunFolder) -> None:
    """15 % of the ordinary tokens, 80 % of them shown as [MASK], and labels only there."""
    torch.manual_seed(0)
    tokens = torch.randint(config.N_SPECIAL, modern.tokenizer().size, (200, 100))
    found = {"hf": bench_peers.collator(modern).torch_mask_tokens(tokens.clone(), tokens < config.N_SPECIAL)}
    ignored = {"hf": -100, "labml": config.PAD}
    if not PEERS["labml-nn"].missing:
        from mlm import bench_labml

        found["labml"] = bench_labml.masking(modern)(tokens.clone())
    for name, (inputs, labels) in found.items():
        selected = labels != ignored[name]
        assert float(selected.double().mean()) == pytest.approx(0.15, abs=0.01)
        assert float((inputs[selected] == config.MASK).double().mean()) == pytest.approx(0.8, abs=0.03)
        assert torch.equal(labels[selected], tokens[selected])
        assert torch.equal(inputs[~selected], tokens[~selected])


def test_the_products_of_a_step_are_the_models_operations(modern: RunFolder) -> None:
    """With a target everywhere what `flops` counts for the plain model; with none, keys and values remain."""

    def counted(rate: float) -> int:
        run = modern.config.model_copy(update={"masking": config.Masking(rate=rate)})
        return sum(one.operations * one.times for one in bench_parts.products(run, n_tokens=400))

    run, shape = modern.config, modern.config.encoder
    assert counted(1.0) == flops.of_token(shape, 400, run.sequence_length) * run.tokens_per_step
    whole = flops.of_token(shape.model_copy(update={"layers": shape.layers - 1}), 0, run.sequence_length)
    assert counted(1e-9) == (whole + 3 * 2 * 2 * shape.width**2) * run.tokens_per_step


@pytest.mark.usefixtures("here")
def test_peers_are_judged_as_our_runs_are(modern: RunFolder, data: dict[str, Shard]) -> None:
    encoder = modern.encoder()
    begins_word = torch.tensor(modern.tokenizer().begins_word)
    frozen = evaluate.freeze(modern.config, data["validation"], begins_word, 8)["yardstick"]
    judged = bench_quality.held_out(encoder, frozen)
    assert judged == pytest.approx(evaluate.measure(encoder, frozen)["loss_nats"], rel=1e-5)


@pytest.mark.usefixtures("here")
def test_time_to_quality_trains_what_the_run_states(modern: RunFolder, tmp_path: Path) -> None:
    """Our curve ends where the run itself did."""
    rows = [json.loads(line) for line in (modern.path / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in rows if row["event"] == "evaluation"][-1]
    asked = {
        "run": str(modern.path),
        "contestant": OURS,
        "limit": None,
        "lowest": 0.0,
        "options": {"once": True},
    }
    points = []
    with Child("mlm.bench_quality:train", tmp_path / "log", **asked) as child:
        assert child.hear()["started"] > 0
        while "ended" not in (said := child.hear(60)):
            points.append(said)
    assert points[-1]["tokens"] == last["tokens"]
    assert points[-1]["loss_nats"] == pytest.approx(last["yardstick"]["loss_nats"], rel=1e-4)


@pytest.mark.usefixtures("here")
def test_time_to_quality_ends_at_its_limit(modern: RunFolder, tmp_path: Path) -> None:
    asked = {"run": str(modern.path), "contestant": "hf-bf16", "limit": 0.3, "lowest": 0.0}
    options = {"learning_rate": 1e-3, "warmup": 2, "steps": 10**6}
    points = []
    with Child("mlm.bench_quality:train", tmp_path / "log", **asked, options=options) as child:
        assert child.hear()["started"] > 0
        while "ended" not in (said := child.hear(60)):
            points.append(said)
    assert 0.3 <= said["ended"] < 3
    assert points[-1]["loss_nats"] < points[0]["loss_nats"]
