"""What was published is made again from scratch: the same bits on the same machine, and a change is told."""

import json
from pathlib import Path

import pytest

from tests.mlm.places import write_yaml
from tests.pipeline.copies import Copy

pytestmark = pytest.mark.long
STATED = [
    {"experiment": "split", "arms": ["100-0-0"], "seeds": [1]},
    {"experiment": "split", "arms": ["80-10-10"], "seeds": [0]},
]


def test_published_runs_come_again_with_the_same_bits_and_leave_the_study_alone(
    smoke: Copy, tmp_path: Path
) -> None:
    """All agrees with the publication but for two numbers, which were changed in it and are told."""
    smoke.run("python", "-m", "analysis", "publish", "smoke", "--to", str(tmp_path))
    reference = tmp_path / "smoke"
    path = reference / "split" / "reference.json"
    record = json.loads(path.read_text())
    (run,) = (one for one in record["runs"] if (one["arm"], one["seed"]) == ("100-0-0", 1))
    run["weights_sha256"] = "0" * 64
    run["values"]["probe.accuracy"] += 0.125
    path.write_text(json.dumps(record))
    write_yaml(reference / "verify.yaml", {"runs": STATED})
    before = {path: path.stat().st_mtime_ns for path in (smoke.folder / "results").rglob("*.json")}
    done = smoke.run("python", "-m", "mlm", "verify", str(reference), ok=False)
    told = done.stdout
    assert done.returncode == 1, done.stderr
    assert "bits are promised: same processor, numerics, versions and training code" in told
    assert "−0.125000" in told and "2 of " in told and " differ" in told
    assert {path: path.stat().st_mtime_ns for path in before} == before
    folder = Path(told.rpartition("The repetition is in ")[2].replace("\n", "").strip())
    assert folder == smoke.folder / "results" / "verify" / "1"
    content = json.loads((folder / "verify.json").read_text())
    checks = content["checks"]
    assert content["faults"] == 2 and content["bits_are_not_promised"] == {"split": []}
    # Where bits differ, the means stand beside the intervals of what was published too.
    assert {check["kind"] for check in checks} == {"exact", "bits", "interval"}
    differing = [check["what"] for check in checks if not check["holds"]]
    assert sorted(differing) == ["part-of-speech accuracy", "weights"]
    assert {"weights", "curve", "part-of-speech accuracy", "flops", "vocabulary_sha256"} <= {
        check["what"] for check in checks
    }
