"""What is built once and used by many tests: text, vocabularies, shards, trained runs."""

import copy
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

from mlm import config, corpus, planner, shards, study, vocabulary
from mlm.__main__ import main
from mlm.runs import RunFolder
from mlm.vocabulary import Tokenizer
from tests.mlm.places import ARCHIVES, EXPERIMENT, SCALE, TEXT, done, found_study, mlm, seal

torch.set_num_threads(1)
settings.register_profile(
    "mlm",
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("mlm")


@pytest.fixture(autouse=True)
def _same_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Archives come from one cache; no test publishes unless it asks to."""
    monkeypatch.setenv("MLM_ARCHIVES", str(ARCHIVES))
    monkeypatch.setenv("WANDB_MODE", "disabled")


@pytest.fixture
def own_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of archives."""
    monkeypatch.setenv("MLM_ARCHIVES", str(tmp_path / "archives"))
    return tmp_path / "archives"


@pytest.fixture(scope="module")
def passing() -> Iterator[Path]:
    """Where commands put passing files, if told. W&B's socket lies there, and its path must be short."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """typed(place, *words): a command as `mlm` runs it, but in this process, which loads torch only once."""

    def run(place: Path, *words: str) -> "subprocess.CompletedProcess[str]":
        monkeypatch.chdir(place)
        monkeypatch.setenv("COLUMNS", "200")
        capsys.readouterr()
        try:
            main(list(words))
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        return subprocess.CompletedProcess(words, code, *capsys.readouterr())

    return run


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., study.Study]:
    """Write scale and experiments, changed by `scale=` and `experiment=`, and load the study."""
    monkeypatch.chdir(tmp_path)

    def build(
        scale: Callable[[dict[str, Any]], None] | None = None,
        experiment: Callable[[dict[str, Any]], None] | None = None,
        **more: dict[str, Any],
    ) -> study.Study:
        contents = []
        for content, change in ((SCALE, scale), (EXPERIMENT, experiment)):
            changed = copy.deepcopy(content)
            if change is not None:
                change(changed)
            contents.append(changed)
        found_study(tmp_path, contents[0], trial=contents[1], **more)
        return planner.load_study("test")

    return build


@pytest.fixture(scope="session")
def vocabularies() -> dict[str, Tokenizer]:
    """A tokenizer of each kind."""
    lines = [line for line in TEXT.split("\n") if line.strip()]
    wanted = {"unigram": 600, "bpe": 600, "char": len(set(TEXT) - {"\n"}) + 1 + config.N_SPECIAL}
    return {
        kind: Tokenizer(
            vocabulary.train(lines, config.Vocabulary.model_validate({"kind": kind, "size": n}), "here")
        )
        for kind, n in wanted.items()
    }


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small study, planned; the baseline's and the `bert` arm's first seeds are trained.

    Tests read it and write nothing into it (`copy_of` makes one to write into).
    """
    folder = found_study(tmp_path_factory.mktemp("study"))
    before = Path.cwd()
    os.chdir(folder)
    try:
        planner.load_study("test").write()
    finally:
        os.chdir(before)
    for arm in ("80-10-10", "bert"):
        done(mlm(folder, "train", "trial", "--arm", arm, "--scale", "test", "--checkpoint-seconds", "1e-3"))
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small study as the current folder."""
    monkeypatch.chdir(place)
    return place


def _run(place: Path, arm: str) -> RunFolder:
    index = json.loads((place / "results/test/study.json").read_text())["index"]
    digest = next(cell["digest"] for cell in index if cell["arm"] == arm and cell["seed"] == 0)
    return RunFolder.open(place / "results" / "runs" / digest)


@pytest.fixture(scope="session")
def modern(place: Path) -> RunFolder:
    """The trained run of the `modern` preset, 80-10-10."""
    return _run(place, "80-10-10")


@pytest.fixture(scope="session")
def bert(place: Path) -> RunFolder:
    """The trained run of the `bert` preset, with dropout."""
    return _run(place, "bert")


@pytest.fixture(scope="session")
def data(place: Path, modern: RunFolder) -> dict[str, shards.Shard]:
    """The small study's shards."""
    return shards.read(place / "results" / "data" / "shards" / modern.record["data"]["shards"])


@pytest.fixture
def prepared(tmp_path: Path) -> Iterator[Path]:
    """A prepared corpus of three documents a split."""
    folder = tmp_path / "prepared"
    folder.mkdir()
    texts = TEXT.split("\n\n")
    for number, split in enumerate(corpus.SPLITS):
        chosen = texts[number * 90 : number * 90 + 90]
        lines = [
            {"document": f"{split}-{i}", "text": "\n\n".join(chosen[30 * i : 30 * i + 30]) + "\n"}
            for i in range(3)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    yield seal(folder)


@pytest.fixture
def an_empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder is a test's own, where data sets are kept as well."""
    monkeypatch.chdir(tmp_path)
    for name in ("DATASETS", "HUB"):
        monkeypatch.setenv(f"HF_{name}_CACHE", str(tmp_path / "cache"))
