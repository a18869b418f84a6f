"""From a number back to its corpus: every file is vouched for, and one changed byte anywhere is named."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from synthetic_results import EFFECTS, EXPERIMENT, Synthetic

from analysis import collect, contrasts, figures, numbers, outputs, paper, provenance, study, table, trace
from mlm.errors import Damaged, InputError
from mlm.files import read_json, write_json
from tests.mlm.places import mlm

SMALL = {arm: EFFECTS[arm] for arm in ("80-10-10", "100-0-0")}
MEAN = "split.100-0-0.probe.accuracy.mean"
UNTRAINED = "split.untrained.probe.accuracy.mean"
DIFFERENCE = "split.contrast.100-0-0.probe.accuracy.difference"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    """A small study with everything that leads to its paper. Tests leave it as it is."""
    root = tmp_path_factory.mktemp("traced")
    before = Path.cwd()
    os.chdir(root)
    try:
        made = Synthetic(root, seeds=2, effects=SMALL).write()
        planned = study.load(made.scale)
        for step in (collect.collect, contrasts.write, table.write, figures.write):
            step(planned, EXPERIMENT)
        numbers.write(planned, [EXPERIMENT])
        paper.write(planned)
    finally:
        os.chdir(before)
    return made


@pytest.fixture
def here(written: Synthetic, monkeypatch: pytest.MonkeyPatch) -> Synthetic:
    monkeypatch.chdir(written.root)
    return written


def changed(number: str = "") -> set[str]:
    return {one.path.as_posix() for one in trace.of("laptop", number).changed}


def flipped(path: Path, draws: np.random.Generator) -> bytes:
    """Flip one bit of a file, and give its bytes as they were."""
    before = path.read_bytes()
    after = bytearray(before)
    after[draws.integers(len(before))] ^= 1 << draws.integers(8)
    path.write_bytes(after)
    return before


def everything(root: Path) -> Iterator[str]:
    for top in ("results", "paper"):
        for path in sorted((root / top).rglob("*")):
            if path.is_file():
                yield path.relative_to(root).as_posix()


def test_every_file_between_corpus_and_paper_is_on_the_way_as_recorded(here: Synthetic) -> None:
    way = trace.of(here.scale)
    assert not way.changed and way.verdict == f"all {len(way.files)} files are as recorded"
    found = {one.path.as_posix() for one in way.files}
    # Of the sources, pictures of pages or the like may lie there without being read.
    assert {path for path in everything(here.root) if path.startswith("results/")} <= found
    assert set(outputs.sources()) <= found
    assert {one.stage for one in way.files} == set(trace.STAGES)


def test_one_flipped_bit_in_any_file_is_named_and_no_other(here: Synthetic) -> None:
    draws = np.random.default_rng(7)
    for one in trace.of(here.scale).files:
        if one.stage == "plan":
            continue  # it holds more than the way needs; its own test is below
        before = flipped(one.path, draws)
        try:
            assert changed() == {one.path.as_posix()}
        finally:
            one.path.write_bytes(before)
    assert not changed()


@pytest.mark.parametrize("number", [MEAN, UNTRAINED, DIFFERENCE, "split.setup.seeds", "all.runs.finished"])
def test_a_number_has_its_runs_and_their_data_on_its_way(here: Synthetic, number: str) -> None:
    entry = numbers.load(here.scale)[number]
    way = trace.of(here.scale, number)
    files = {one.path.as_posix(): one for one in way.files}
    assert not way.changed
    kinds = {"untrained": {"measures"}}.get(number.split(".")[1], {"measures", "runs", "weights"})
    assert kinds | {"paper", "numbers", "tables", "vocabulary", "shards", "corpus"} <= {
        one.stage for one in way.files
    }
    runs = {path.split("/")[2] for path in files if path.startswith(("results/runs/", "results/untrained/"))}
    assert runs == set(entry["runs"])
    assert len(entry["inputs"]) == 3 and set(entry["inputs"]) | set(entry["tables"]) <= set(files)
    draws = np.random.default_rng(11)
    for path in list(files)[:: max(1, len(files) // 12)]:
        if files[path].stage != "plan":
            before = flipped(Path(path), draws)
            try:
                assert changed(number) == {path}
            finally:
                Path(path).write_bytes(before)


def test_a_run_of_another_arm_is_on_the_way_of_the_paper_and_not_of_the_number(here: Synthetic) -> None:
    weights = here.folder("80-10-10", 0) / "weights.safetensors"
    before = flipped(weights, np.random.default_rng(3))
    try:
        assert not changed(MEAN)
        assert changed(DIFFERENCE) == changed() == {weights.relative_to(here.root).as_posix()}
    finally:
        weights.write_bytes(before)


def test_what_is_gone_or_planned_otherwise_is_named(here: Synthetic) -> None:
    vocabulary = next((here.results / "data" / "vocabularies").rglob("*.model"))
    moved = vocabulary.rename(vocabulary.with_suffix(".moved"))
    try:
        assert trace.of(here.scale, MEAN).verdict.endswith("/vocabulary.model (missing)")
    finally:
        moved.rename(vocabulary)
    path = here.results / here.scale / "study.json"
    before = path.read_bytes()
    content = read_json(path, "")
    try:
        write_json(
            path,
            content | {"experiments": content["experiments"] | {"another": content["experiments"]["split"]}},
        )
        assert not changed(MEAN)  # an experiment more is nothing to this one
        content["experiments"]["split"]["contrasts"][0]["expect"] = "higher"
        write_json(path, content)
        assert changed(MEAN) == {"results/laptop/study.json"}
        path.write_text("{")
        assert changed(MEAN) == {"results/laptop/study.json"}
    finally:
        path.write_bytes(before)


def test_the_command_ends_with_0_1_or_2(here: Synthetic) -> None:
    def said(*words: str) -> "subprocess.CompletedProcess[str]":
        return mlm(Path.cwd(), "trace", *words)

    whole = said(MEAN)
    assert whole.returncode == 0, whole.stderr
    entry = numbers.load(here.scale)[MEAN]
    assert whole.stdout.startswith(f"{MEAN} = {entry['value']:.3f} share (95 % Student t: ")
    assert f"code synthetic0code00; commit {entry['git_commit'][0]}" in whole.stdout
    assert all(sha256[:16] in whole.stdout for sha256 in (entry["tables"] | entry["inputs"]).values())
    metrics = here.folder("100-0-0", 1) / "metrics.jsonl"
    before = flipped(metrics, np.random.default_rng(5))
    try:
        broken = said()
    finally:
        metrics.write_bytes(before)
    assert broken.returncode == 1 and str(metrics.relative_to(here.root)) in broken.stdout.splitlines()[-1]
    file = here.results / here.scale / "numbers.json"
    before = file.read_bytes()
    try:
        for content in (before[:-40], before.replace(MEAN.encode(), MEAN.upper().encode())):
            file.write_bytes(content)
            lost = said(MEAN)
            named = "numbers.json (changed since `numbers` wrote it)"
            assert lost.returncode == 1 and lost.stdout.rstrip().endswith(named)
    finally:
        file.write_bytes(before)
    listed = said("split.contrast.100-0-0")
    assert listed.returncode == 0 and DIFFERENCE in listed.stdout.splitlines()
    unknown = said(MEAN.replace("accuracy", "acuracy"))
    assert (
        unknown.returncode == 2 and f"near are: {MEAN}" in unknown.stderr and "Traceback" not in unknown.stderr
    )
    nothing = said("--scale", "galaxy")
    assert nothing.returncode == 2 and "Scales with records: laptop" in nothing.stderr


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("tables/split/results.csv", "0.7", "0.8"),
        ("tables/split/collected.json", '"finished": 4', '"finished": 5'),
        ("tables/split/contrasts.json", '"difference": -0', '"difference": 0'),
        ("tables/split/contrasts.csv", "descriptive", "supported"),
        ("tables/split/table.csv", "0.7", "0.8"),
        ("tables/split/table.md", "0.7", "0.8"),
        ("tables/split/table.tex", "0.7", "0.8"),
        ("figures/split/curves.svg", "</svg>", " </svg>"),
        ("numbers.json", '"value": 0.7', '"value": 0.8'),
    ],
)
def test_a_number_changed_by_hand_stops_the_next_build_which_says_where(
    here: Synthetic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, old: str, new: str
) -> None:
    copy = shutil.copytree(here.root, tmp_path / "copy")
    monkeypatch.chdir(copy)
    path = Path("results/laptop") / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    line = text[: text.index(old)].count("\n") + 1
    where = (
        rf"{path}(, line {line})?: truncated or altered since `\w+` wrote it.*; run `python -m analysis \w+ "
    )
    pages = [Path(name).read_bytes() for name in outputs.files("paper", "laptop")]
    with pytest.raises(Damaged, match=where):
        paper.write(study.load("laptop"))
    with pytest.raises(Damaged, match=where) as found:
        provenance.check_scale("laptop")
    assert file.endswith(".svg") or f", line {line}: " in str(found.value)
    assert pages == [Path(name).read_bytes() for name in outputs.files("paper", "laptop")]


def test_a_step_that_was_killed_vouches_for_nothing(
    here: Synthetic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(here.root, tmp_path / "copy"))
    provenance.forget("table", "laptop", EXPERIMENT)
    path = Path("results/laptop/tables/split/table.csv")
    path.write_text("half a ta")
    provenance.check_scale("laptop")  # Snakemake knows that the rule did not end, and makes it again
    table.write(study.load("laptop"), EXPERIMENT)
    assert not changed()
    path.unlink()
    provenance.check_scale("laptop")
    assert changed() == {path.as_posix()}


def test_runs_that_were_trained_on_different_files_of_one_name_are_refused(
    here: Synthetic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(here.root, tmp_path / "copy"))
    path = Path("results/runs") / here.digests["100-0-0", 1] / "run.json"
    record = read_json(path, "")
    record["inputs"]["vocabulary_sha256"] = "f" * 64
    write_json(path, record)
    with pytest.raises(InputError, match=r"vocabulary\.model: was not the same file for all runs"):
        collect.collect(study.load("laptop"), EXPERIMENT)
