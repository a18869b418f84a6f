"""Another measure is taken of the runs there are; the files of the others stay, whatever becomes of it."""

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.mlm.places import EXPERIMENT, SCALE, found_study, write_yaml
from tests.pipeline.copies import copy_to
from tests.pipeline.test_pipeline import jobs

pytestmark = pytest.mark.long
TARGET = "results/test/tables/trial/results.csv"
LAB = "def probe(encoder, tokenizer, run):\n    return {values}\n"
MEASURES: dict[str, Any] = {
    "evaluation": {"sequences": 16},
    "tasks": ["mine"],
    "finetune": {"tasks": ["mine"], "restarts": 1, "epochs": 1},
    "reach": {"loss_nats": [5.9]},
}
TASK = {"title": "mine", "licence": "none", "format": "labelled", "held_out": 0.3,
        "source": {"kind": "files", "paths": ["own.txt"]}}  # fmt: skip


def taken(folder: Path) -> dict[Path, tuple[int, str]]:
    """Files of measures, each with its number in the file system and its content."""
    places = [folder / "results" / name for name in ("runs", "untrained")]
    found = (path for place in places for path in place.glob("*/*-*.json"))
    return {path: (path.stat().st_ino, path.read_text()) for path in found}


def test_a_changed_measure_alone_is_taken_anew(tmp_path: Path) -> None:
    place = copy_to(tmp_path / "copy")
    folder = place.folder
    for name in ("split", "split-12m"):
        (folder / "experiments" / f"{name}.yaml").unlink()
    wandb = {"wandb": {"mode": "disabled"}}
    trial = copy.deepcopy(EXPERIMENT) | {"primary_measure": "test.yardstick.accuracy", "seeds": 1}
    del trial["arms"]["bert"]
    found_study(folder, SCALE, trial=trial)
    rows = [f"{label} {text} number {n}\n" for n in range(60) for label, text in (("A", "The"), ("B", "One"))]
    (folder / "own.txt").write_text("".join(rows))
    write_yaml(folder / "experiments" / "probes" / "mine.yaml", TASK)
    stated = copy.deepcopy(MEASURES)

    def run(ok: bool = True) -> str:
        scale = SCALE | wandb | {"measures": stated}
        write_yaml(folder / "experiments" / "scales" / "test.yaml", scale)
        done = place.run("snakemake", "--cores", "all", TARGET, "--config", "scale=test", ok=ok)
        assert ok or done.returncode
        return done.stdout + done.stderr

    run()
    first = taken(folder)
    assert len(first) == 2 * 4 + 1  # arms by measures, and a task of the encoder before the first step

    stated["reach"]["loss_nats"] = [5.8]
    assert jobs(run()) == {"measure": 2, "collect": 1, "total": 3}
    second = taken(folder)
    assert first.items() <= second.items() and len(second) == len(first) + 2

    (folder / "lab_of_kept.py").write_text(LAB.format(values="{}"))
    stated["plugins"] = {"lab": "lab_of_kept:probe"}
    assert "it must give a dictionary of numbers" in run(ok=False)
    assert {path: text for path, (_, text) in taken(folder).items()} == {p: t for p, (_, t) in second.items()}

    (folder / "lab_of_kept.py").write_text(LAB.format(values="{'one': 1}"))
    run()
    assert len(taken(folder)) == len(second) + 2 + 1
    assert (folder / TARGET).read_text().count(",lab.one,1.0,") == 2
