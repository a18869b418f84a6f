"""Compiled steps give the plain ones' numbers, the same bits every time, and are compiled once a shape."""

import json
import os
import re
import subprocess
import sys
import time
from ast import literal_eval
from pathlib import Path

import pytest
import torch
from torch._inductor.exc import CppCompileError, InductorError

from mlm import compiled, config, devices, shards
from mlm.encoder import Encoder
from mlm.errors import InputError
from mlm.files import sealed, write_json
from mlm.refusal import refusing
from mlm.runs import RunFolder
from mlm.train import Trainer
from tests.mlm.places import BESIDE_TRAINING, copy_of, done, environment, loaded, mlm
from tests.mlm.test_measuring import untimed

needs_compiler = pytest.mark.skipif(bool(compiled.missing(cuda=False)), reason="no C++ compiler here")
BERT = config.Encoder.model_validate({"preset": "bert", "width": 32, "heads": 2, "dropout": 0}).model_dump()
WORDS = [number % 3 == 0 for number in range(400)]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """One folder for all tests: what one has compiled the next finds."""
    folder = tmp_path_factory.getbasetemp() / "compiled"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder))


def steps() -> dict[Path, int]:
    """Kept steps, and when each was written."""
    found = Path(os.environ[compiled.FOLDER_VARIABLE]).glob("*/steps/*")
    return {file: file.stat().st_mtime_ns for file in found}


def compiles_one_layer(place: Path) -> Path:
    """The place's scale, its steps now compiled, and with little to compile."""
    scale = place / "experiments" / "scales" / "test.yaml"
    stated = scale.read_text().replace("path: eager", "path: compiled")
    scale.write_text(stated.replace("size: tiny", "size: tiny\n    layers: 1"))
    return scale


COMPARE = """
import json, sys
from pathlib import Path
import torch
from mlm import config, devices, objectives, schedules, shards
from mlm.encoder import Encoder
from mlm.randomness import Purpose, generator, uniform
from mlm.train import Trainer

given = json.loads(sys.argv[1])
run, dtype = config.Run.model_validate(given["run"]), getattr(torch, given["dtype"])
devices.prepare(config.Numerics(device="cpu", dtype=given["dtype"]))
data = shards.read(Path(given["shards"]))
words = [number % 3 == 0 for number in range(400)]

def trainer(path):
    encoder = Encoder(run.encoder, 400, run.seed, dtype)
    for name, parameter in encoder.named_parameters():
        if parameter.dim() > 1:  # else the first steps' attention and feed-forward are zero
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
            parameter.data.add_(0.05 * noise)
    return Trainer(run, data, words, encoder, path)

plain, fast = trainer("eager"), trainer("compiled")
assert fast.sums is not fast.objective.sums
losses, gradients, apart = 0.0, 0.0, 0.0
for number in (0, 1, run.steps - 2, run.steps - 1):  # of a pattern that changes, both
    fast.optimizer.parameters.copy_(plain.optimizer.parameters)  # differences do not pile up
    found = []
    for made in (plain, fast):
        share = schedules.progress(number, run.steps)
        tokens, pairs = made.text(number)
        made.encoder.pattern = schedules.pattern(run, share)
        draws = uniform(generator(run.seed, Purpose.MASKING, number))
        masking = schedules.masking(run.masking, share)
        known = {"n_tokens": 400, "begins_word": made.begins_word, "step": number}
        corrupted = made.corrupt(tokens, masking, draws, **known)
        batch = objectives.batch(tokens, corrupted, run.causal, pairs)
        sums = made._gradients(number, batch, made.objective.counts(batch))
        each = {name: parameter.grad.clone() for name, parameter in made.encoder.named_parameters()}
        found.append((sums, made.optimizer.gradients.clone(), each))
        made.optimizer.gradients.zero_()
    (one, expected, of_one), (other, gradient, of_other) = found
    assert all(torch.isfinite(each).all() for each in (*other.values(), gradient))
    losses = max(losses, *(abs(float(other[term] / one[term]) - 1) for term in one))
    gradients = max(gradients, float((gradient - expected).abs().max() / expected.abs().max()))
    for name, mine in of_one.items():
        off = float((of_other[name] - mine).norm())
        apart = max(apart, off / float(mine.norm()) if mine.any() else off)
    plain.optimizer.gradients.copy_(expected)
    plain.optimizer.step(number + 1, 1e-3)
graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
print(json.dumps({"losses": losses, "gradients": gradients, "apart": apart, "graphs": graphs}))
"""


SINUSOIDAL = {"positions": "sinusoidal", "query_key_norm": False}
WINDOW = {"window": {"shape": "staged", "values": [4, 8]}}


@needs_compiler
@pytest.mark.parametrize(
    ("changes", "dtype"),
    [
        pytest.param({"encoder": {"layers": 1}}, "float32", id="one-layer"),
        *(
            pytest.param(changes, dtype, id=name, marks=pytest.mark.long)
            for name, dtype, changes in (
                ("default", "float32", {}),
                ("default-bfloat16", "bfloat16", {}),
                ("causal", "float32", {"objective": "causal", "encoder": SINUSOIDAL}),
                ("pairs", "float32",
                 {"objective": "mlm+nsp", "masking": {"unit": "word"}, "encoder": {"segments": True}}),
                ("window-bfloat16", "bfloat16", {"attention": WINDOW, "encoder": {"layers": 1}}),
                ("bert", "float32", {"encoder": {**BERT, "layers": 1}}),
            )
        ),
    ],
)  # fmt: skip
def test_losses_and_gradients_are_those_of_the_plain_path(
    changes: dict, dtype: str, here: Path, modern: RunFolder
) -> None:
    """Of all parameters together by the largest, and of each by its own length.

    In a process of its own: the checks of shapes that tests put into every function cannot be compiled.
    """
    encoder = modern.config.encoder.model_dump() | changes.get("encoder", {})
    run = config.Run.model_validate({**modern.config.model_dump(), **changes, "encoder": encoder})
    given = {"run": run.model_dump(), "dtype": dtype, "shards": str(modern.shards)}
    command = [sys.executable, "-c", COMPARE, json.dumps(given)]
    made = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    found = json.loads(made.stdout)
    # In bfloat16 a number has eight bits, and a gradient of few numbers averages little of it away.
    losses, gradients, apart = (1e-5, 1e-5, 1e-5) if dtype == "float32" else (1e-3, 0.03, 0.1)
    assert found["losses"] < losses
    assert found["gradients"] < gradients
    assert found["apart"] < apart
    assert found["graphs"] == 1


WIDTHS = """
import torch
from mlm import compiled, config, devices, objectives, schedules
from mlm.encoder import Encoder
from mlm.objectives import Batch, Prediction

devices.prepare(config.Numerics(device="cpu", dtype="float32"))
length, draws = 24, torch.Generator().manual_seed(0)
sizes = {"layers": 2, "width": 32, "heads": 2, "max_positions": 24}
shape = config.Encoder.model_validate({"preset": "modern", **sizes})
encoder = Encoder(shape, 100, 0, torch.float32)
encoder.pattern = schedules.Pattern()
for parameter in encoder.parameters():
    if parameter.dim() > 1:  # else attention and feed-forward are zero
        parameter.data.add_(0.05 * torch.randn(parameter.shape, generator=draws))
plain = Prediction(tokens=True)
fast = compiled.sums(plain)

def found(sums, batch):
    encoder.zero_grad()
    loss = sums(encoder, batch, None)["tokens"]
    loss.backward()
    return loss.detach(), torch.cat([one.grad.flatten() for one in encoder.parameters()])

for width in (5, 2, 3, 7, 8, 16, 17, length):  # traced at the first
    inputs, tokens = torch.randint(5, 100, (2, 8, length), generator=draws)
    at = torch.stack([torch.randperm(length, generator=draws)[:width].sort().values for _ in range(8)])
    real = torch.arange(width) < torch.randint(1, width + 1, (8, 1), generator=draws)
    targets, kind = tokens.gather(1, at), real.to(torch.int8)
    batch = Batch(inputs, at, targets, real, kind)
    (loss, gradient), (same, beside) = found(plain.sums, batch), found(fast, batch)
    assert torch.isclose(loss, same, rtol=1e-5), (width, loss, same)
    assert (gradient - beside).abs().max() < 1e-5 * gradient.abs().max(), width
assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
"""


@pytest.mark.long
@needs_compiler
def test_a_step_traced_at_one_number_of_targets_is_right_for_every_other() -> None:
    """Nothing looks, before a step on a CPU, whether the code that was made fits it."""
    command = [sys.executable, "-c", WIDTHS]
    made = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr


ORDERS = """
import sys
import torch
from mlm import compiled, config, schedules
from mlm.encoder import Encoder
from mlm.objectives import Batch, Prediction

sizes = {"layers": 1, "width": 8, "heads": 2, "max_positions": 16}
shape = config.Encoder.model_validate({"preset": "modern", **sizes})
encoder = Encoder(shape, 20, 0, torch.float32)
seen = []

def backend(graph, inputs):
    given = [node.meta["example_value"] for node in graph.graph.nodes if node.op == "placeholder"]
    each = [one.shape for one in given if isinstance(one, torch.Tensor)]
    seen.append([[size if isinstance(size, int) else "any" for size in one] for one in each])
    return graph.forward

def batch(length, width):
    tokens = torch.full((2, length), 7)
    at = torch.arange(width).expand(2, -1).contiguous()
    real = torch.ones(2, width, dtype=torch.bool)
    return Batch(tokens, at, at.clone(), real, real.to(torch.int8))

compiled._step = lambda objective, *_: compiled._guarded(type(objective).sums, backend=backend)
step = compiled.sums(Prediction(tokens=True))
for length, width in eval(sys.argv[1]):
    step(encoder, batch(length, width), None)["tokens"].backward()
print(sorted(seen, key=str))
"""


def test_on_a_gpu_what_is_fixed_in_a_step_does_not_depend_on_what_came_before() -> None:
    """With a backend that only notes what it is given: lengths and widths in two orders, two graphs each."""
    one = [(8, 3), (8, 4), (16, 5), (16, 3), (8, 8), (16, 16)]
    found = []
    for order in (one, one[::-1]):
        command = [sys.executable, "-c", ORDERS, str(order)]
        made = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
        assert made.returncode == 0, made.stderr
        found.append(made.stdout)
    assert found[0] == found[1]
    graphs = literal_eval(found[0])
    assert len(graphs) == 2
    for graph, length in zip(graphs, (16, 8), strict=True):
        assert [2, length] in graph and [2, "any"] in graph


@pytest.mark.long
@needs_compiler
def test_a_compiled_run_is_resumed_and_repeated_to_the_same_bits(place: Path, tmp_path: Path) -> None:
    """In processes of their own: one compiles, and the others find its code. Measures by any are the same.

    A process that finds a step imports nothing of what plans and analyses.
    """
    mine = copy_of(place, tmp_path / "place")
    scale = compiles_one_layer(mine)
    growing = "lengths: {shape: staged, values: [8, 16], ends: [0.25]}"  # the second from step 10 of 40
    scale.write_text(scale.read_text().replace("  batch_size", f"  {growing}\n  batch_size"))
    folder = mine / "results" / "runs"
    before = {path.name for path in folder.iterdir()}
    done(mlm(mine, "train", "trial", "--scale", "test"))
    (run,) = {path.name for path in folder.iterdir()} - before
    weights = (folder / run / "weights.safetensors").read_bytes()
    assert '"path": "compiled"' in (folder / run / "config.json").read_text()
    as_planned(folder / run)
    kept = steps()
    assert len(kept) >= 2
    command = [sys.executable, "-m", "mlm", "train", f"results/runs/{run}", "--checkpoint-seconds", "1e-3"]
    killed = subprocess.Popen(command, cwd=mine, env=environment(), stdout=subprocess.DEVNULL)
    checkpoints = folder / run / "checkpoints"
    try:
        while killed.poll() is None and not any(int(one.stem) > 10 for one in checkpoints.glob("*.checkpoint")):
            time.sleep(0.001)
    finally:
        killed.kill()
        killed.wait()
    assert steps() == kept
    stated = {"measures": {"own": {"one.json": {"name": "evaluation", "setting": 16, "over_training": False}}},
              "runs": {run: {"vocabulary": "own", "files": ["one.json"]}}}  # fmt: skip
    write_json(mine / "measures.json", stated)
    done(mlm(mine, "train", f"results/runs/{run}", "--then-measure", "measures.json"))
    assert (folder / run / "weights.safetensors").read_bytes() == weights
    assert steps() == kept
    done(mlm(mine, "measure", run, "--take", "evaluation=apart.json", "--with", "evaluation=16"))
    by_training, apart = (path.read_text() for path in (folder / run / "aside/one.json", mine / "apart.json"))
    assert untimed(by_training) == untimed(apart)
    as_planned(folder / run)
    imported = loaded(mine, "train", f"results/runs/{run}")
    assert "torch._dynamo" in imported and not BESIDE_TRAINING & imported
    assert (folder / run / "weights.safetensors").read_bytes() == weights
    assert steps() == kept


def as_planned(run: Path) -> None:
    """Take away what its training left."""
    for left in ("run.json", "trained", "metrics.jsonl", "weights.safetensors"):
        (run / left).unlink()


@pytest.mark.long
@needs_compiler
def test_a_run_trains_to_its_end_where_its_compiled_steps_cannot_be_kept(place: Path, tmp_path: Path) -> None:
    """It says so once, compiles where torch would, and leaves nothing where it was told to."""
    mine, barred, passing = (tmp_path / name for name in ("place", "barred", "passing"))
    compiles_one_layer(copy_of(place, mine))
    barred.touch()  # root, too, makes no folder in a file
    passing.mkdir()
    before = {path.name for path in (mine / "results" / "runs").iterdir()}
    command = [sys.executable, "-m", "mlm", "train", "trial", "--scale", "test"]
    variables = environment(TMPDIR=str(passing), **{compiled.FOLDER_VARIABLE: str(barred)})
    ended = subprocess.run(command, cwd=mine, env=variables, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("compiled steps cannot be kept there (Not a directory)") == 1
    assert "Traceback" not in ended.stderr
    (run,) = {path for path in (mine / "results" / "runs").iterdir() if path.name not in before}
    assert '"path": "compiled"' in (run / "config.json").read_text()
    assert RunFolder.open(run).outcome()["status"] == "finished" and (run / "trained").exists()
    assert barred.read_bytes() == b"" and [*passing.glob("torchinductor_*")]


def test_a_kept_step_that_is_spoilt_or_of_another_torch_is_made_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compiled._found(tmp_path / "none") is None
    whole = sealed("\n".join(compiled._instructions()).encode() + b"\n\nof another torch")
    for content in (b"", whole[:-9], whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], whole):
        (tmp_path / "step").write_bytes(content)
        assert compiled._found(tmp_path / "step") is None
    # The last is as it was written: if none ever loads, every run pays for compiling, and is told so.
    assert re.fullmatch(r"note: .*/step: cannot be loaded \(\w+\), and is made anew\n", capsys.readouterr().err)


def test_what_cannot_be_compiled_runs_as_it_is(bert: RunFolder, data: dict[str, shards.Shard]) -> None:
    assert bert.config.encoder.dropout > 0
    made = Trainer(bert.config, data, WORDS, Encoder(bert.config.encoder, 400, 0, torch.float32), "compiled")
    assert made.sums == made.objective.sums


def test_what_is_compiled_is_kept_apart_for_each_state_of_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Gradients of our own are part of it, and torch does not tell one state of them from another."""
    monkeypatch.delenv(compiled.FOLDER_VARIABLE)
    compiled.keep_in(tmp_path, "one")
    assert os.environ[compiled.FOLDER_VARIABLE] == str(tmp_path / "one")
    compiled.keep_in(tmp_path, "older")
    compiled.keep_in(tmp_path, "one")  # the process goes on with the first
    assert os.environ[compiled.FOLDER_VARIABLE] == str(tmp_path / "one")
    monkeypatch.setattr(compiled, "_ours", {})
    compiled.keep_in(tmp_path / "default", "one")  # a process that was started by it
    assert os.environ[compiled.FOLDER_VARIABLE] == str(tmp_path / "one")
    monkeypatch.setenv(compiled.FOLDER_VARIABLE, str(tmp_path / "mine"))
    compiled.keep_in(tmp_path, "two")
    assert os.environ[compiled.FOLDER_VARIABLE] == str(tmp_path / "mine" / "two")
    assert not capsys.readouterr().err


def test_another_compiler_has_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known by its version: its name stays the same when it is exchanged."""
    found = []
    for version in ("12", "13"):
        path = tmp_path / version / "c++"
        path.parent.mkdir()
        path.write_text(f"#!/bin/sh\necho 'g++ {version}.2'\necho 'Copyright'\n")
        path.chmod(0o755)
        monkeypatch.setenv("CXX", str(path))
        assert compiled.compiler() == f"g++ {version}.2"
        found.append((compiled.made_by(), compiled.source()))
    assert found[0][0] != found[1][0]
    assert found[0][1] == found[1][1], "no run is another for it"
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert compiled.compiler() == ""


def test_a_folder_that_cannot_be_written_is_told_of_and_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(compiled.FOLDER_VARIABLE, str(tmp_path / "file"))
    compiled.keep_in(tmp_path, "code")
    said = capsys.readouterr().err
    assert f"{tmp_path}/file/code: compiled steps cannot be kept there (Not a directory)" in said
    assert compiled.FOLDER_VARIABLE in said
    assert compiled.FOLDER_VARIABLE not in os.environ


def test_a_compiler_that_does_not_compile_is_told_of_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    output = "header.hpp: warning: odd\ncc1plus: fatal error: no such program\ncompilation terminated.\n"
    error = CppCompileError(["/opt/g++", "header.hpp", "-O3"], output)
    with pytest.raises(SystemExit) as ended, refusing():
        raise InductorError(error, None)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: /opt/g++: this C++ compiler does not compile training steps: cc1plus: fatal")
    assert "CXX" in said and "`compile: false`" in said and said.count("\n") == 1
    with pytest.raises(RuntimeError, match="of another kind"), refusing():
        raise RuntimeError("of another kind")


def test_without_a_compiler_a_study_is_planned_on_the_plain_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert compiled.missing(cuda=False) == "C++ compiler (no-such-compiler)"
    assert devices.detect().path == "eager"
    begun = config.Numerics(device="cpu", dtype="float32", path="compiled")
    with pytest.raises(InputError, match=r"compiled steps, and here is no C\+\+ compiler .*; x fixes"):
        devices.check(begun, "x")


def test_the_steps_to_compile_are_one_of_each_shape() -> None:
    run = config.Run.model_validate(
        {"sequence_length": 64, "budget_tokens": 64 * 64 * 100,
         "lengths": {"shape": "staged", "values": [16, 64], "ends": [0.5]},
         "attention": {"window": {"shape": "staged", "values": [8, 128], "ends": [0.8]}}}
    )  # fmt: skip
    assert compiled.shapes(run) == [0, 50, 80]
    assert compiled.shapes(config.Run()) == [0]
    growing = {"window": {"shape": "linear", "values": [8, 16, 32]}}
    assert compiled.shapes(config.Run.model_validate({"attention": growing})) == [0]


def test_patterns_of_attention_share_their_code_and_none_at_all_has_another() -> None:
    def shape(**stated: object) -> str:
        training = config.Run.model_validate(stated).model_dump()
        return compiled.shape({"training": training, "data": {"vocabulary": "v"}, "numerics": {}, "code": "c"})

    plain, narrow = shape(), shape(attention={"window": 8})
    assert plain == shape(attention={"window": 128}) == shape(attention={"group": 64}) != narrow
    assert narrow == shape(attention={"group": 16}) == shape(attention={"group": 16, "window": 2})
    causal = shape(objective="causal")
    assert causal == shape(objective="causal", attention={"group": 16}) != narrow
