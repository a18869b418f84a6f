"""Compiled steps in the pipeline: made once for runs of one shape, and made anew they give the same bits."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from mlm import compiled, yaml_file
from tests.chaos.tiny import tiny
from tests.mlm.places import write_yaml
from tests.pipeline.copies import Copy

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(compiled.missing(cuda=False)), reason="no C++ compiler here"),
]


def made(folder: Path) -> tuple[Copy, dict[str, bytes]]:
    """A tiny study, compiled where nothing was compiled before, and its weights by run."""
    place = replace(tiny(folder), variables={compiled.FOLDER_VARIABLE: str(folder / "inductor")})
    file = folder / "experiments" / "scales" / "smoke.yaml"
    scale = yaml_file.read(file, "")
    scale["numerics"]["path"] = "compiled"
    scale["run"]["encoder"]["layers"] = 1  # less to compile
    write_yaml(file, scale)
    place.snakemake("trial")
    found = sorted((folder / "results" / "runs").glob("*/weights.safetensors"))
    return place, {path.parent.name: path.read_bytes() for path in found}


def times(place: Copy) -> list[Path]:
    """What compiling and training left."""
    top = place.folder / "results"
    return [*(place.folder / compiled.CACHE).glob("*.json"), *top.glob("runs/*/weights.safetensors")]


def test_runs_of_a_shape_share_steps_that_come_out_the_same_wherever_they_are_compiled(tmp_path: Path) -> None:
    (place, weights), (other, again) = (made(tmp_path / name) for name in ("one", "other"))
    assert len(weights) == 2 and weights == again
    for each in (place, other):
        logs = list((each.folder / "results" / "logs" / "compile").iterdir())
        flags = [json.loads(path.read_text()) for path in (each.folder / compiled.CACHE).glob("*.json")]
        assert len(logs) == len(flags) == 1, "two runs, one shape"
        assert flags[0]["run"] in weights
        for run in weights:
            assert '"path": "compiled"' in (each.folder / "results/runs" / run / "config.json").read_text()
    assert "Nothing to be done" in place.snakemake("trial")
    file = place.folder / "experiments" / "trial.yaml"
    write_yaml(file, yaml_file.read(file, "") | {"seeds": 2})
    before = {path: path.stat().st_mtime_ns for path in times(place)}
    told = place.snakemake("trial")
    with (place.folder / "results/smoke/tables/trial/results.csv").open() as stream:
        assert len({(row["arm"], row["seed"]) for row in csv.DictReader(stream)}) == 4, told
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what was there is not made again"
