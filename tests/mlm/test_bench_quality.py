"""Time to quality, of curves that are made up: who is planned for how long, and what is shown of it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from analysis import figure_bench
from mlm import bench_quality, bench_table, config, files
from mlm.bench_peers import OURS, PEERS
from mlm.bench_process import Failed
from mlm.errors import InputError

Curve = list[list[float]]
MACHINE = {
    "flags": ["avx2"], "processor": "x86_64", "cores": 2, "threads": 1, "code": "source 0123, changed since",
    "numerics": {"dtype": "float32", "path": "compiled"}, "versions": {"torch": "2"},
}  # fmt: skip
TUNED = ["hf-tuned-0.0003", "hf-tuned-0.001", "hf-tuned-0.003"]


def falling(seconds: float, start: float = 8.0, end: float = 4.0) -> Curve:
    """From `start` nats to `end`, evenly over so many seconds, a point a quarter."""
    return [[seconds * i / 4, 1000 * i, start + (end - start) * i / 4] for i in range(5)]


class Toy:
    """The world around `measure`: curves by contestant's name, the speed and type of the bare loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, dtype: str = "float32") -> None:
        self.curves: dict[str, list[Curve]] = {}
        self.asked: list[dict[str, Any]] = []
        self.limits: dict[str, float | None] = {}
        numerics = config.Numerics.model_validate({"device": "cpu", "dtype": dtype})
        run = SimpleNamespace(numerics=numerics, config=SimpleNamespace(tokens_per_step=100))
        monkeypatch.setattr(bench_quality, "RunFolder", SimpleNamespace(open=lambda path: run))
        monkeypatch.setattr(bench_quality, "Child", self._child)
        monkeypatch.setattr(bench_quality, "_curve", self._curve)
        for name, peer in PEERS.items():
            monkeypatch.setitem(PEERS, name, peer._replace(packages=()))

    def _child(self, target: str, log: Path, **options: Any) -> Any:
        toy = self

        class Child:
            def __enter__(self) -> "Child":
                toy.asked.append(options)
                return self

            def hear(self) -> dict[str, Any]:
                return {"attention": "eager"}

            def ask(self, seconds: float) -> dict[str, float]:
                return {"tokens": 1000 * seconds, "seconds": seconds}

            def __exit__(self, *_: object) -> None:
                pass

        return Child()

    def _curve(
        self, name: str, log: Path, run: Path, contestant: str, limit: float | None, *_: Any, **__: Any
    ) -> tuple[float, Curve]:
        self.limits[name] = limit
        if not self.curves.get(name):
            raise Failed(f"ended early; its last line: out of luck ({log})")
        return 2.0, self.curves[name].pop(0)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    return Toy(monkeypatch)


@pytest.mark.parametrize(("level", "seconds"), [(8.0, 0.0), (6.0, 20.0), (5.5, 25.0), (4.0, 40.0), (3.9, None)])
def test_arrival_lies_between_two_points(level: float, seconds: float | None) -> None:
    assert bench_quality.arrival(falling(40.0), level) == seconds


def test_a_seed_that_does_not_arrive_leaves_no_median() -> None:
    assert bench_quality._median([falling(10.0), falling(20.0), falling(40.0)], 6.0) == 10.0
    assert bench_quality._median([falling(10.0), falling(20.0, end=7.0)], 6.0) is None


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tuned_peers_compute_in_the_type_that_we_do(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    toy = Toy(monkeypatch, dtype)
    planned = bench_quality._plan(Path("run"), Path("logs"), 10.0, print)
    assert toy.asked == [{"run": "run", "contestant": "hf-bf16", "dtype": dtype}]
    assert [one[0] for one in planned] == ["labml-nn", "hf-defaults", *TUNED]
    assert [one[3] for one in planned] == [300.0, 300.0, 150.0, 150.0, 150.0]
    for _, contestant, title, _, options in planned[2:]:
        assert contestant == "hf-bf16"
        assert title.startswith(f"BertForMaskedLM in {dtype}, eager attention, ")
        # 1,000 tokens a second for 150 s, 100 a step
        assert options.items() >= {"steps": 1500, "warmup": 45, "attention": "eager", "dtype": dtype}.items()


def test_who_is_not_installed_is_told_and_not_planned(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("labml-nn", "hf-bf16"):
        monkeypatch.setitem(PEERS, name, PEERS[name]._replace(packages=("no_such_package",)))
    said: list[str] = []
    assert [one[0] for one in bench_quality._plan(Path(), Path(), 1.0, said.append)] == ["hf-defaults"]
    assert [line.partition(":")[0] for line in said] == ["labml-nn", "hf-bf16"]


def test_measured_is_what_the_curves_say_and_a_peer_that_fails_is_told(toy: Toy, tmp_path: Path) -> None:
    toy.curves = {OURS: [falling(10.0), falling(20.0), falling(40.0)], "labml-nn": [falling(600.0, end=6.0)]}
    toy.curves |= {"hf-defaults": [falling(200.0)], TUNED[0]: [falling(300.0, end=5.0)]}
    said: list[str] = []
    measured = bench_quality.measure([Path(name) for name in "abc"], tmp_path, said.append, levels=(6.0, 4.0))
    whole = list(measured)
    found = whole[-1]
    assert [len(one["contestants"]) for one in whole] == [1, 2, 3, 4], "what there is, as each ends"
    assert found["reference_seconds"] == 20.0
    assert toy.limits == {
        OURS: None, "labml-nn": 600.0, "hf-defaults": 600.0, **dict.fromkeys(TUNED, 300.0),
    }  # fmt: skip
    told = found["contestants"]
    assert list(told) == [OURS, "labml-nn", "hf-defaults", TUNED[0]]
    assert [line for line in said if "failed" in line] == [
        f"{name}: failed: ended early; its last line: out of luck ({tmp_path}/quality-{name}.log)"
        for name in TUNED[1:]
    ]
    assert told[OURS]["seconds"] == {"6": 10.0, "4": 20.0}
    assert told["labml-nn"]["seconds"] == {"6": 600.0, "4": None}
    assert told["labml-nn"]["times_ours"] == {"6": 60.0, "4": None}
    assert told["hf-defaults"]["times_ours"] == {"6": 10.0, "4": 10.0}

    shown = table(found)
    assert shown["labml-nn"] == ["600.0", "60.0", "not in 30 ×", "6.00", "600", "2.0"]
    assert shown["hf-defaults"] == ["100.0", "10.0", "200.0", "10.0", "4.00", "600", "2.0"]
    assert shown[OURS] == ["10.0", "1.0", "20.0", "1.0", "4.00", "its budget", "2.0"]

    files.write_json(tmp_path / "bench.json", {"ratios": {}, "shapes": {}, "quality": found})
    figure_bench.write(tmp_path / "bench.json", tmp_path)
    assert [path.name for path in sorted(tmp_path.glob("*.svg"))] == ["bench-quality.svg"]
    axes = figure_bench.quality(found).axes[0]
    assert [text.get_text() for text in axes.texts] == list(told)
    drawn = [list(line.get_xdata()) for line in axes.lines]
    assert drawn.count([2.5, 5.0, 7.5, 10.0]) == 1, "a line a seed, without what a logarithm cannot show"
    assert len(drawn) == 3 + 3 + 2, "three seeds, three peers, two levels"


def table(found: dict[str, Any]) -> dict[str, list[str]]:
    """Contestant -> what stands beside it, cells that are empty left out."""
    console = Console(width=240)
    with console.capture() as taken:
        console.print(bench_table.quality({"machine": MACHINE, **found}))
    said = taken.get()
    words = " ".join(said.split())  # title and caption are as wide as the table
    for name, one in found["contestants"].items():
        assert f"{name}: {one['title']}" in words
    assert "float32, compiled, torch 2, source 0123, changed since" in words
    lines = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in said.splitlines()]
    return {line[0]: line[1:] for line in lines if line and line[0] in found["contestants"]}


def test_a_level_that_not_all_our_seeds_reach_bounds_nobody_and_is_no_measure(toy: Toy, tmp_path: Path) -> None:
    """A peer's seconds to it are shown all the same, and are by nobody's."""
    toy.curves = {OURS: [falling(10.0), falling(20.0, end=5.0)], "hf-defaults": [falling(200.0)]}
    *_, found = bench_quality.measure([Path("a"), Path("b")], tmp_path, lambda line: None, levels=(6.0, 4.0))
    assert found["reference_seconds"] == 15.0, "the whole of our training"
    assert found["contestants"][OURS]["seconds"]["4"] is None
    shown = table(found)
    assert shown["hf-defaults"] == ["100.0", "10.9", "200.0", "4.00", "450", "2.0"]
    assert shown[OURS] == ["9.2", "1.0", "not reached", "4.00", "its budget", "2.0"]


def test_without_a_curve_of_ours_nothing_is_measured(toy: Toy, tmp_path: Path) -> None:
    toy.curves = {OURS: [falling(10.0)]}
    with pytest.raises(InputError, match=r"mlm, seed 1: failed: ended early; .*out of luck \(.*; peers are"):
        next(bench_quality.measure([Path("a"), Path("b")], tmp_path, print))


@pytest.mark.parametrize("content", [None, "[1]", json.dumps({"quality": {}})])
def test_a_figure_of_what_is_no_benchmark_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "bench.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=r"bench\.json: "):
        figure_bench.write(path, tmp_path)
