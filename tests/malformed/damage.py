"""Files that the project wrote and that something has damaged since."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mlm import checkpoint, planner
from tests.analysis.synthetic_results import Synthetic
from tests.malformed.case import Case
from tests.malformed.commands import CONFIG, typed
from tests.mlm.places import EXPERIMENT, SCALE, found_study, write_yaml

RUN = "trial/80-10-10/seed-0"
GOES_ON = "trial/100-0-0/seed-0"
SMALL_SCALE: dict[str, Any] = {**SCALE, "measures": {"evaluation": {"sequences": 8}, "tasks": ["mine"]}}
SMALL: dict[str, Any] = {
    **EXPERIMENT,
    "arms": {arm: EXPERIMENT["arms"][arm] for arm in ("80-10-10", "100-0-0")},
    "seeds": 1,
    "primary_measure": "test.yardstick.loss_nats",
}
TASK = {"title": "mine", "licence": "none", "format": "labelled", "held_out": 0.3,
        "source": {"kind": "files", "paths": ["own.txt"]}}  # fmt: skip


def trained(folder: Path) -> Path:
    """A study of two runs: one has ended, the other was stopped and left two checkpoints."""
    found_study(folder, SMALL_SCALE, trial=SMALL)
    write_yaml(folder / "experiments" / "probes" / "mine.yaml", TASK)
    rows = [f"{label} {text} number {n}\n" for n in range(60) for label, text in (("A", "The"), ("B", "One"))]
    (folder / "own.txt").write_text("".join(rows))
    with contextlib.chdir(folder):
        planner.load_study("test").write()
    clear, checkpoint.clear = checkpoint.clear, lambda folder: None
    try:
        for arm in ("80-10-10", "100-0-0"):
            done(
                folder, "mlm", "train", "trial", "--arm", arm, "--scale", "test", "--checkpoint-seconds", "1e-3"
            )
    finally:
        checkpoint.clear = clear
    index = json.loads((folder / "results/test/study.json").read_text())["index"]
    for cell in index:
        run = folder / "results" / "runs" / cell["digest"]
        if cell["arm"] == "80-10-10":
            shutil.rmtree(run / "checkpoints")
        else:
            for name in ("run.json", "trained", "weights.safetensors"):
                (run / name).unlink()
    done(folder, "mlm", "task", "mine", "results/data/tasks/mine-0/sentences.jsonl")
    return folder


def done(place: Path, *words: str) -> None:
    """A command that goes well."""
    told = typed(place, *words)
    assert told.code == 0, told.said


def analysed(folder: Path) -> Path:
    """Made-up results of two arms, through every step of the analysis before the paper."""
    folder.mkdir(parents=True)
    made = Synthetic(folder, seeds=2, effects={"80-10-10": 0.0, "100-0-0": -0.03}).write()
    for command in ("collect", "contrasts", "table", "figures", "numbers"):
        words = [made.scale] if command == "numbers" else [made.scale, "split"]
        done(folder, "analysis", command, *words)
    return folder


class Written(NamedTuple):
    """A file that the project wrote."""

    group: str
    pattern: str
    """Where it lies; the first that there is."""
    words: tuple[str, ...]
    """The command that reads it."""
    harms: tuple[str, ...]
    code: int = 2


def _cut(raw: bytes) -> bytes:
    return raw[: 2 * len(raw) // 3]


def _changed(raw: bytes) -> bytes:
    """One bit, in the middle."""
    at = len(raw) // 2
    return raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1 :]


HARMS: dict[str, Callable[[bytes], bytes]] = {
    "cut": _cut,
    "changed": _changed,
    "emptied": lambda raw: b"",
    "replaced": lambda raw: b"\x93garbage \xff\x00\n" * 9,
}
SAID = {
    "cut": "its last third is gone",
    "changed": "one bit of it is another",
    "emptied": "it is empty",
    "replaced": "it holds something else",
    "a folder": "a folder is in its place",
    "missing": "it is gone",
}
CORPUS, ENDED, STOPPED = "results/data/corpora/REFERENCE", "results/runs/ENDED", "results/runs/STOPPED"
SENTENCES = "results/data/tasks/mine-0/sentences.jsonl"
CHECKPOINTS = "Checkpoints: told, and gone on without"
ALL = ("cut", "changed", "emptied", "replaced", "a folder", "missing")
UNSEALED = ("cut", "emptied", "replaced", "a folder")
"""Of files without a checksum, in which one bit may make another value of a value."""
THERE = ("cut", "changed", "emptied", "replaced", "a folder")
"""Of files that may be missing."""
EVALUATE = ("mlm", "evaluate", RUN)
FILL = ("mlm", "fill", "a [MASK]", "--run", RUN)
TRAIN = ("mlm", "train", GOES_ON)
VOCABULARY = ("mlm", "vocabulary", CORPUS, "out.model", "--size", "400")
MEASURE = ("mlm", "measure", RUN, "--take", "tasks.mine=out.json", "--with", f"tasks.mine={SENTENCES}")
COLLECT = ("analysis", "collect", "laptop", "split")
CONTRASTS = ("analysis", "contrasts", "laptop", "split")
FIGURES = ("analysis", "figures", "laptop", "split")
NUMBERS = ("analysis", "numbers", "laptop")
PAPER = ("analysis", "paper", "laptop")
TABLES, STEPS = "results/laptop/tables/split", "results/laptop/provenance/split"

OF_RUNS = (
    Written("Prepared corpora", f"{CORPUS}/corpus.json", VOCABULARY, ALL),
    Written("Prepared corpora", f"{CORPUS}/train.jsonl", VOCABULARY, ALL),
    Written("Vocabularies", "results/data/vocabularies/*/vocabulary.model", FILL, ALL),
    Written("Shards", "results/data/shards/*/shards.json", TRAIN, ALL),
    Written("Shards", "results/data/shards/*/train.tokens", TRAIN, ALL),
    Written("Shards", "results/data/shards/*/train.offsets", TRAIN, ALL),
    Written("Shards", "results/data/shards/*/validation.lines", TRAIN, ALL),
    Written("Shards", "results/data/shards/*/test.tokens", EVALUATE, ALL),
    Written("Runs", f"{ENDED}/weights.safetensors", EVALUATE, ALL),
    Written("Runs", f"{ENDED}/metrics.jsonl", EVALUATE, ALL),
    Written("Runs", f"{ENDED}/run.json", EVALUATE, (*UNSEALED, "missing")),
    Written("Runs", f"{ENDED}/config.json", EVALUATE, THERE),
    Written("Runs", f"{ENDED}/labels.json", EVALUATE, UNSEALED),
    Written("Runs", f"{STOPPED}/metrics.jsonl", TRAIN, (*UNSEALED, "missing")),
    Written("Runs", f"{STOPPED}/checkpoints/*40.checkpoint", TRAIN, ("a folder",)),
    Written("Sentences of tasks", SENTENCES, MEASURE, ALL),
    Written("Studies", "results/test/study.json", ("mlm", "status", "--scale", "test"), (*UNSEALED, "missing")),
    Written("Studies", "results/test/numerics.json", (CONFIG, "scale=test"), UNSEALED),
    Written("Studies", "results/test/registration/trial.json", TRAIN, UNSEALED),
    # By design: a run goes on from the checkpoint before, or begins anew, and says so.
    Written(CHECKPOINTS, f"{STOPPED}/checkpoints/*40.checkpoint", TRAIN, THERE[:4], 0),
    Written(CHECKPOINTS, f"{STOPPED}/checkpoints/*.checkpoint", TRAIN, THERE[:4], 0),
)
OF_RESULTS = (
    Written("Collected results", "results/runs/*/probe-*.json", COLLECT, UNSEALED),
    Written("Collected results", "results/runs/*/run.json", COLLECT, UNSEALED),
    Written("Collected results", "results/runs/*/metrics.jsonl", COLLECT, ALL),
    Written("Collected results", "results/runs/*/config.json", COLLECT, ALL),
    Written("Collected results", "results/laptop/study.json", COLLECT, (*UNSEALED, "missing")),
    Written("Collected results", f"{TABLES}/results.csv", CONTRASTS, ALL),
    Written("Collected results", f"{TABLES}/collected.json", CONTRASTS, ALL),
    Written("Collected results", f"{STEPS}/collect.json", CONTRASTS, THERE),
    Written("Collected results", f"{TABLES}/curves.csv", FIGURES, ALL),
    Written("Collected results", f"{TABLES}/seconds.csv", FIGURES, ALL),
    Written("Contrasts, tables, numbers", f"{TABLES}/contrasts.csv", FIGURES, ALL),
    Written("Contrasts, tables, numbers", f"{STEPS}/contrasts.json", NUMBERS, THERE),
    Written("Contrasts, tables, numbers", "results/laptop/numbers.json", PAPER, ALL),
    Written("Contrasts, tables, numbers", f"{TABLES}/table.csv", PAPER, ALL),
    Written("Contrasts, tables, numbers", f"{STEPS}/table.json", PAPER, THERE),
)


def cases(found: Path, written: tuple[Written, ...]) -> Iterator[Case]:
    """Every file of a place that is as it was left, harmed in every way."""
    known = _names(found)
    for one in written:
        pattern, *words = (_said(text, known) for text in (one.pattern, *one.words))
        paths = sorted(str(path.relative_to(found)) for path in found.glob(pattern))
        if not pattern.endswith("/*.checkpoint"):
            paths = paths[:1]
        assert paths, pattern
        for harm in one.harms:
            what = f"`{one.pattern}`: {SAID[harm]}"
            # What is changed may no longer fit the files beside it; a run without an end has not ended.
            named = (str(Path(paths[0]).parent if harm in ("changed", "missing") else paths[0]),)
            yield Case(one.group, what, partial(_harm, paths, harm), tuple(words), named, one.code)


def _names(found: Path) -> dict[str, str]:
    """What this study calls the folders that the tables above speak of."""
    names = {}
    for cell in _index(found):
        names[ENDED if cell["arm"] == "80-10-10" else STOPPED] = f"results/runs/{cell['digest']}"
    for manifest in found.glob("results/data/corpora/*/corpus.json"):
        names[CORPUS] = str(manifest.parent.relative_to(found))
    return names


def _index(found: Path) -> list[dict[str, Any]]:
    path = found / "results" / "test" / "study.json"
    return list(json.loads(path.read_text())["index"]) if path.exists() else []


def _said(text: str, known: dict[str, str]) -> str:
    for name, path in known.items():
        text = text.replace(name, path)
    return text


def _harm(paths: list[str], harm: str, place: Path) -> None:
    for path in (place / one for one in paths):
        raw = path.read_bytes()
        path.unlink()
        if harm == "a folder":
            path.mkdir()
        elif harm != "missing":
            path.write_bytes(HARMS[harm](raw))
