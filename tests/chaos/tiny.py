"""The whole pipeline, as small as it gets: every stage of it in seconds."""

import copy
import json
from pathlib import Path

from mlm import grammar
from tests.mlm.places import EXPERIMENT, SCALE, found_study, write_yaml
from tests.pipeline.copies import Copy, copy_to, results


def tiny(folder: Path, every_stage: bool = False) -> Copy:
    """A copy of the repository whose smoke scale runs one experiment of two arms on half a megabyte of text.

    Args:
        folder: where to.
        every_stage: whether the encoders before the first step, probes, pairs and W&B are in it too.
    """
    place = copy_to(folder)
    for path in (*folder.glob("experiments/*.yaml"), *folder.glob("paper/experiments/*.md")):
        path.unlink()
    experiment = copy.deepcopy(EXPERIMENT) | {"seeds": 1, "primary_measure": "test.yardstick.accuracy"}
    del experiment["arms"]["bert"]
    found_study(folder, trial=experiment)
    (folder / "experiments" / "scales" / "test.yaml").unlink()
    words = " ".join([*grammar.LISTS.values(), *grammar.FUNCTION_WORDS]).replace(",", "")
    (folder / "text" / "words.txt").write_text(f"{words}.\n" * grammar.OCCURRENCES)
    scale = copy.deepcopy(SCALE) | {"checkpoint_seconds": 0.02}
    scale["run"] |= {"checkpoints_at": {"first": 2048, "number": 2}}
    if every_stage:
        scale["measures"]["pairs"] = {"per_kind": 5}
    else:
        del scale["measures"]["probe"]
        scale["wandb"] = {"mode": "disabled"}
    write_yaml(folder / "experiments" / "scales" / "smoke.yaml", scale)
    return place


def finished(place: Copy) -> dict[str, bytes]:
    """What must be the same bits however often the pipeline was killed: all but seconds."""
    found = results(place)
    top = place.folder / "results"
    for path in sorted(top.glob("data/**/*")) + sorted(top.glob("runs/*/kept/*")):
        if path.is_file() and path.suffix != ".lock":
            found[str(path.relative_to(place.folder))] = path.read_bytes()
    for path in sorted(top.glob("runs/*/*-*.json")) + sorted(top.glob("untrained/*/*.json")):
        measure = json.loads(path.read_text())
        measure.pop("run_sha256", None)  # of run.json, which tells seconds
        measure.pop("wall_seconds", None)
        found[str(path.relative_to(place.folder))] = json.dumps(measure).encode()
    for path in sorted(top.glob("runs/*/metrics.jsonl")):
        records = [json.loads(line) for line in path.read_text().splitlines()]
        for record in records:
            del record["train_seconds"]
        found[str(path.relative_to(place.folder))] = json.dumps(records).encode()
    return found
