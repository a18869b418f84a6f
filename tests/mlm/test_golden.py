"""A run's code is called by what it does: a refactoring renames no run, a moved bit those that it moves."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from mlm import config, golden, golden_run, schedules
from mlm.files import write_json
from tests.mlm.places import ROOT, SCALE, done, environment, found_study, mlm, refused

PATHS: dict[str, dict[str, Any]] = {
    "usual": {},
    "constant": {"optimizer": {"learning_rate": 3e-3}},
    "bert": {"encoder": {"preset": "bert"}},
    "spans": {"masking": {"unit": "span", "span": {"longest": 4}}},
    "causal": {"objective": "causal"},
    "pairs": {"objective": "mlm+nsp"},
    "staged": {"lengths": {"shape": "staged", "values": [4, 8, 16], "ends": [0.3, 0.6]}},
    "window": {"attention": {"window": {"shape": "linear", "values": [4, 8, 16]}}},
    "changing": {"masking": {"change": {"shape": "step", "rate": 0.4, "split": {"mask": 1}}}},
    "parts": {"micro_batch": 2},
}
BASE = {
    "sequence_length": 16,
    "budget_tokens": 40_960,
    "optimizer": {"learning_rate": 3e-3, "warmup_tokens": 512, "decay_tokens": 2048},
}
NUMERICS = config.Numerics(device="cpu", dtype="float32")


def path(name: str) -> config.Run:
    return config.Run.model_validate(BASE | PATHS[name])


def answers(
    package: Path, place: Path, names: Iterable[str], numerics: config.Numerics = NUMERICS, **variables: str
) -> dict[str, dict[str, str]]:
    """Name -> the bits of its golden run, computed by the package in a folder, in a process of its own."""
    place.mkdir(parents=True)
    questions = {name: golden.question(path(name), numerics, {}) for name in names}
    env = environment(PYTHONPATH=str(package), MLM_GOLDEN=str(place), **variables)
    command = [sys.executable, "-m", "mlm", "golden"]
    asked = json.dumps(list(questions.values()))
    subprocess.run(command, cwd=place, env=env, input=asked, text=True, check=True)
    kept = [json.loads(file.read_text()) for file in place.glob("*/*.json")]
    return {
        name: next(one["bits"] for one in kept if one["question"] == question)
        for name, question in questions.items()
    }


@pytest.fixture(scope="module")
def today(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The bits of every path, with the code as it is."""
    return answers(ROOT, tmp_path_factory.mktemp("today") / "place", PATHS)


@pytest.fixture
def package(tmp_path: Path) -> Callable[..., Path]:
    """package((module, before, after), …): the folder of a copy of the package with these edits."""

    def build(*edits: tuple[str, str, str]) -> Path:
        folder = tmp_path / "package"
        shutil.copytree(ROOT / "mlm", folder / "mlm", ignore=shutil.ignore_patterns("__pycache__"))
        for module, before, after in edits:
            file = folder / "mlm" / f"{module}.py"
            text = file.read_text()
            assert before in text, (module, before)
            file.write_text(text.replace(before, after))
        return folder

    return build


REFACTORED = (
    ("masking", "import functools\n", "# A comment.\nimport functools\n"),
    # A local variable renamed.
    ("train", "told = _gather(gathered, group)", "gathering = _gather(gathered, group)"),
    ("train", "told.losses, told.norms, told.counts", "gathering.losses, gathering.norms, gathering.counts"),
    ("train", "_training_record(run, number, told))", "_training_record(run, number, gathering))"),
    # A function inlined.
    ("train", "rate = _rate(run, ended - 1)", "begin = (ended - 1) * run.tokens_per_step\n    rate = "
     "schedules.learning_rate(run.optimizer, run.budget_tokens, begin, begin + run.tokens_per_step)"),
    # More is logged.
    ("train", "counts = told.counts.sum(0)", "print(number)\n    counts = told.counts.sum(0)"),
    ("train", '"loss_nats": float(means.sum()),', '"loss_nats": float(means.sum()), "rows": run.batch_size,'),
)  # fmt: skip

DRAWS = "split, v = masking.split, uniform((tokens.shape[0], tokens.shape[1])).cpu().numpy()"
FEW = {"usual", "constant", "causal"}
MOVED: dict[str, tuple[tuple[tuple[str, str, str], ...], set[str]]] = {
    "the order of the draws": (
        (("masking", f"    {DRAWS}\n", ""),
         ("masking", "    selected = select(", f"    {DRAWS}\n    selected = select(")), FEW),
    "epsilon": ((("optimizer", "eps=o.epsilon", "eps=o.epsilon * 1.01"),), FEW),
    "a moment forgotten on resuming": (
        (("optimizer", "in self.state().items():", "in list(self.state().items())[:2]:"),), FEW),
    "warm-up, a step late": (
        (("schedules", "min(1.0, end / optimizer.warmup", "min(1.0, begin / optimizer.warmup"),),
        FEW - {"constant"}),
    # What each of these moves is one path's own.
    "paths of their own": (
        (("block", "x * kept / (1 - self.rate)", "x * kept / (1 - self.rate * 0.99)"),
         ("selection", "clamp(max=span.longest)", "clamp(max=span.longest - 1)"),
         ("objectives", "(at - 1).clamp(min=0)", "(at - 1).clamp(min=1)"),
         ("sentence_pairs", "CANDIDATES = 8", "CANDIDATES = 7"),
         ("schedules", "values[bisect_right(ends, progress)]", "values[bisect_right(ends, progress - 1e-9)]"),
         ("schedules", "float(progress >= at)", "float(progress > at)"),
         ("encoder", "if causal else window // 2", "if causal else window // 2 + 1"),
         ("train", "(last - first) // self.parts))", "(last - first) // min(self.parts, 1)))")),
        set(PATHS) - FEW | {"causal"}),
}  # fmt: skip


def moved(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    return {name for name in after if before[name] != after[name]}


def test_a_refactoring_moves_no_bit(
    package: Callable[..., Path], today: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    assert not moved(today, answers(package(*REFACTORED), tmp_path / "place", PATHS))


@pytest.mark.parametrize("what", MOVED)
def test_a_moved_bit_is_of_exactly_the_paths_that_use_it(
    package: Callable[..., Path], today: dict[str, dict[str, str]], tmp_path: Path, what: str
) -> None:
    edits, wanted = MOVED[what]
    names = FEW if wanted <= FEW else set(PATHS)
    assert moved(today, answers(package(*edits), tmp_path / "place", sorted(names))) == wanted


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_neither_the_process_nor_its_company_nor_the_cpu_moves_a_bit(
    today: dict[str, dict[str, str]], tmp_path: Path, dtype: str
) -> None:
    """What a lesser CPU lacks is taken from the libraries that may be told; torch and MKL are told by us."""
    numerics = config.Numerics.model_validate({"device": "cpu", "dtype": dtype})
    lesser = "-AVX2_Usable,-FMA_Usable,-AVX_Usable,-AVX2,-FMA,-AVX"
    there = answers(
        ROOT, tmp_path / "there", ["parts", "bert"], numerics,
        GLIBC_TUNABLES=f"glibc.cpu.hwcaps={lesser}", OMP_NUM_THREADS="2",
    )  # fmt: skip
    if dtype == "float32":
        assert not moved(today, there)
    else:
        assert not moved(answers(ROOT, tmp_path / "here", ["bert", "parts"], numerics), there)
        assert moved(today, there) == {"bert", "parts"}


@st.composite
def configurations(draw: st.DrawFn) -> config.Run:
    """Runs of every shape that a file may ask for."""
    of = st.sampled_from
    length = draw(of([16, 60, 64, 512]))
    parts = [n for n in range(2, length + 1) if length % n == 0]
    growth = {
        "shape": draw(of(["staged", "linear", "cosine"])),
        "values": sorted({*draw(st.lists(of(parts), max_size=5)), draw(of(parts[:-1])), length}),
    }
    if growth["shape"] == "staged" and draw(st.booleans()):
        n = len(growth["values"])
        growth["ends"] = [(k + 1) / (n + 1) for k in range(n - 1)]
    share = st.floats(0.01, 1)
    change = {"shape": draw(of(["linear", "cosine", "step"])), "rate": draw(share), "split": {"random": 1}}
    split = draw(of([{"mask": 1}, {"mask": 0.8, "same": 0.1, "random": 0.1}, {"same": 0.2, "random": 0.8}]))
    given = {
        "objective": draw(of(config.OBJECTIVES)),
        "sequence_length": length,
        "batch_size": 12,
        "micro_batch": draw(of([None, 12, 6, 1])),
        "budget_tokens": 2**20,
        "encoder": {"preset": draw(of(["bert", "modern"])), "size": draw(of(["tiny", "base"]))},
        "lengths": draw(of([None, growth])),
        "stretch": draw(of([None, *parts])),
        "attention": {"window": draw(of([None, 7, growth, 600])), "group": draw(of([None, *parts]))},
        "optimizer": {"warmup_tokens": draw(of([0, 9, 2**19])), "decay_tokens": draw(of([0, 9, 2**19]))},
        "masking": {
            "rate": draw(share), "unit": draw(of(["token", "span"])), "span": {"longest": draw(of([1, 2, 9]))},
            "split": split, "change": draw(of([None, change])), "predicted": draw(share),
        },
    }  # fmt: skip
    try:
        return config.Run.model_validate(given)
    except ValidationError:
        assume(False)
        raise


@given(configurations())
def test_a_tiny_run_is_possible_crosses_every_boundary_and_is_its_own(run: config.Run) -> None:
    tiny = golden.tiny(run)
    assert golden.tiny(tiny) == tiny
    assert (tiny.steps, tiny.objective, tiny.plugins) == (golden.STEPS, run.objective, run.plugins)
    steps = range(tiny.steps)
    if run.lengths:
        assert {schedules.length(tiny, step) for step in steps} >= {
            tiny.lengths.values[0],
            tiny.sequence_length,
        }
        assert len(tiny.lengths.values) == len(run.lengths.values)
    tokens = [(step * tiny.tokens_per_step, (step + 1) * tiny.tokens_per_step) for step in steps]
    rates = [schedules.learning_rate(tiny.optimizer, tiny.budget_tokens, *at) for at in tokens]
    assert (rates[0] < max(rates)) == (run.optimizer.warmup_tokens > 0)
    assert (rates[-1] < max(rates)) == (run.optimizer.decay_tokens > 0)
    assert rates.count(max(rates)) >= 3
    pattern, theirs = (schedules.pattern(one, 1.0).everywhere(one.sequence_length) for one in (tiny, run))
    assert pattern == theirs


def test_sizes_seeds_and_shares_share_a_golden_run_and_paths_do_not() -> None:
    usual = path("usual")
    alike = {"seed": 3, "batch_size": 32, "vocabulary": {"size": 999}, "masking": {"rate": 0.4},
             "encoder": {"size": "mini"}, "curve": {"sequences": 7}, "checkpoints_at": [4096]}  # fmt: skip
    for key, value in alike.items():
        other = config.Run.model_validate(BASE | {key: value})
        assert golden.question(other, NUMERICS, {}) == golden.question(usual, NUMERICS, {}), key
    tiny = [golden.tiny(path(name)).model_dump_json() for name in PATHS]
    assert len(set(tiny)) == len(PATHS)


def test_what_a_golden_run_goes_through_is_in_the_name_of_where_its_bits_are_kept() -> None:
    seen: set[str] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            seen.add(frame.f_globals.get("__name__", ""))

    for name in PATHS:
        sys.setprofile(note)
        try:
            golden_run.bits(golden.tiny(path(name)), "float32")
        finally:
            sys.setprofile(None)
    ours = {name for name in seen if name.startswith("mlm.")}
    assert {"mlm.train", "mlm.block", "mlm.checkpoint"} <= ours
    assert ours <= {*golden.CODE}, sorted(ours - {*golden.CODE})


def test_the_source_that_is_compiled_is_part_of_the_name() -> None:
    run, bert = path("usual"), path("bert")
    compiles = NUMERICS.model_copy(update={"path": "compiled"})
    before = golden.codes(NUMERICS, [(run, {}), (bert, {})])
    compiled = golden.codes(compiles, [(run, {}), (bert, {})])
    assert compiled[0] != before[0]
    assert compiled[1] == before[1]  # dropout: its steps are run as they are
    several = golden.codes(NUMERICS.model_copy(update={"processes": 2}), [(run, {})])
    assert several[0] != before[0]  # so is that by which processes share a batch


# Planning


def planned(place: Path, package: Path = ROOT, **variables: str) -> dict[str, str]:
    """Arm/seed -> digest of the run, as a process of this package plans and writes it."""
    program = (
        "import json; from mlm.planner import load_study; study = load_study('test'); study.write(); "
        "print(json.dumps({f'{c.arm}/{c.seed}': c.digest for c in study.cells}))"
    )
    env = environment(PYTHONPATH=str(package), **variables)
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True, check=True)
    return json.loads(said.stdout)  # type: ignore[no-any-return]


def test_a_refactoring_renames_no_run_and_an_unchanged_source_computes_nothing(
    package: Callable[..., Path], tmp_path: Path
) -> None:
    place = found_study(tmp_path / "study")
    kept = place / "results" / "golden"
    before = planned(place, MLM_GOLDEN="results/golden")

    def files() -> dict[str, int]:
        return {str(file.relative_to(kept)): file.stat().st_mtime_ns for file in kept.rglob("*.json")}

    computed = files()
    assert len(computed) == 3
    assert planned(place, MLM_GOLDEN="results/golden") == before
    assert files() == computed
    assert planned(place, package(*REFACTORED), MLM_GOLDEN="results/golden") == before
    assert len(files()) == 6
    whole = min(kept.rglob("*.json"))
    for harmed in (whole.read_text()[:-9], whole.read_text().replace('"weights": "', '"weights": "0')):
        whole.write_text(harmed)
        assert planned(place, MLM_GOLDEN="results/golden") == before


def test_old_runs_are_kept_in_spite_of_an_accepted_change_which_is_told(
    package: Callable[..., Path], place: Path, tmp_path: Path
) -> None:
    here, changed = tmp_path / "study", package(*MOVED["epsilon"][0])
    shutil.copytree(place, here, symlinks=True)
    before, after = planned(here), planned(here, changed)
    assert not {*before.values()} & {*after.values()}
    said = refused(mlm(here, "train", before["80-10-10/1"], PYTHONPATH=str(changed)))
    assert "the source of mlm changed since the run was planned" in said

    why = "epsilon: a hundredth more moves nothing that is measured"
    accept = ("accept", "--scale", "test", "--why", why)
    assert "2 runs are kept" in done(mlm(here, *accept, PYTHONPATH=str(changed)))
    kept = planned(here, changed)
    assert {arm for arm in before if kept[arm] == before[arm]} == {
        arm
        for arm in before
        if not arm.startswith("100-0-0")  # of which no run had ended
    }
    told = json.loads((here / "results/test/study.json").read_text())["experiments"]["trial"]["accepted"]
    assert told == [{"why": why, "arms": ["80-10-10", "bert"]}]
    asked = json.loads((here / "results/runs" / kept["80-10-10/1"] / "config.json").read_text())
    other = here / "results/runs" / ("b" * 16)  # the same run, ended under a third code
    write_json(other / "config.json", asked | {"code": "b" * 16})
    (other / "run.json").touch()
    assert "nothing to accept" in refused(mlm(here, *accept, PYTHONPATH=str(changed))), "it has its name"
    shutil.rmtree(other)
    done(mlm(here, "train", kept["80-10-10/1"], PYTHONPATH=str(changed)))
    folder = here / "results/runs" / kept["80-10-10/1"]
    trained, asked = (json.loads((folder / name).read_text())["code"] for name in ("run.json", "config.json"))
    assert trained != asked
    assert "nothing to accept" in refused(mlm(here, *accept, PYTHONPATH=str(changed)))
    assert planned(here) == before


STUBBORN = """
from mlm.encoder import Encoder

class Wide(Encoder):
    def __init__(self, options, n_tokens, seed, dtype):
        if options.width < 32:
            raise ValueError("too narrow")
        super().__init__(options, n_tokens, seed, dtype)
"""


def test_a_part_of_the_users_own_that_is_not_made_tiny_goes_by_the_source(
    package: Callable[..., Path], tmp_path: Path
) -> None:
    encoder = SCALE["run"]["encoder"] | {"architecture": "wide:Wide"}
    place = found_study(tmp_path / "study", SCALE | {"run": SCALE["run"] | {"encoder": encoder}})
    (place / "wide.py").write_text(STUBBORN)
    before = planned(place)
    assert planned(place) == before
    after = planned(place, package(*REFACTORED))
    assert not {*before.values()} & {*after.values()}


def test_code_that_fails_is_told_when_it_is_planned(package: Callable[..., Path], tmp_path: Path) -> None:
    place = found_study(tmp_path / "study")
    broken = package(("train", "batch = objectives.batch(", "batch = objectives.bach("))
    failed = mlm(place, "train", "trial", "--scale", "test", PYTHONPATH=str(broken))
    assert failed.returncode == 2
    assert "has no attribute 'bach'" in failed.stderr
    assert failed.stderr.splitlines()[-1].startswith("error: the code fails in a golden run")
