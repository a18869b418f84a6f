"""What goes to other machines, as far as it shows on this one; on a real Slurm: tests/slurm."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from mlm import allocation, costs
from mlm.runs import RunFolder
from tests.pipeline.copies import ROOT, SCALE, Copy, copy_to

KUBERNETES = ROOT / "profiles" / "kubernetes"


def test_runs_kept_within_the_time_and_memory_that_a_cluster_is_asked_for(
    smoke: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where nothing has ended yet
    none = costs.History()
    monkeypatch.chdir(smoke.folder)
    some = costs.History()
    found = sorted(Path("results/runs").glob("*/run.json"))
    assert found
    for path in found:
        told, run = json.loads(path.read_text()), RunFolder.open(path.parent)
        for history in (none, some):
            assert told["wall_seconds"] < 60 * allocation.minutes(run.config, run.numerics, history)
        assert told["peak_memory_bytes"] < 1e6 * allocation.memory_mb(run.config, run.numerics)


@pytest.mark.parametrize("profile", ["slurm", "kubernetes"])
def test_snakemake_accepts_the_profile_where_there_is_no_cluster(
    smoke: Copy, profile: str, tmp_path: Path
) -> None:
    for tool in ("bash", "git", "which"):  # and not sinfo, which asks a controller
        (tmp_path / tool).symlink_to(shutil.which(tool) or "")
    bare = Copy(smoke.folder, variables={"PATH": f"{Path(smoke.environment['PATH'].split(':')[0])}:{tmp_path}"})
    told = bare.run("snakemake", "--workflow-profile", f"profiles/{profile}", "--dry-run", *SCALE)
    assert "Nothing to be done" in told.stdout + told.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--resources", "gpu=0"], "--resources gpu=0: this study computes on GPUs"),
        (["--set-resources", "train:gpu=3"], "--set-resources train:gpu=3: the limit is 2"),
    ],
)
def test_a_study_on_gpus_refuses_limits_that_snakemake_would_pass_over(
    tmp_path: Path, words: list[str], told: str
) -> None:
    copy = Copy(copy_to(tmp_path).folder, "gpu", {"CUDA_VISIBLE_DEVICES": "0,1"})
    done = copy.run("snakemake", "--cores", "4", "--dry-run", *words, "--config", "scale=gpu", ok=False)
    assert done.returncode == 2
    assert told in done.stderr and "Traceback" not in done.stderr


def test_the_image_has_what_the_project_needs_and_the_pod_runs_what_is_in_it() -> None:
    recipe = (KUBERNETES / "Containerfile").read_text()
    needed = re.search(r"for tool in (.*?);", (ROOT / "Makefile").read_text())
    installed = re.search(r"apt-get install --yes --no-install-recommends (.*?) \\", recipe)
    assert needed and installed and set(needed[1].split()) <= set(installed[1].split())
    copied = [word for line in re.findall(r"^COPY (.*)$", recipe, re.MULTILINE) for word in line.split()[:-1]]
    assert copied == ["requirements.lock", "."]

    claim, job = yaml.safe_load_all((KUBERNETES / "job.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    (container,), (volume,) = pod["containers"], pod["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    folder = re.search(r"^WORKDIR (.*)$", recipe, re.MULTILINE)
    assert folder is not None
    for mount in container["volumeMounts"]:
        assert mount["name"] == volume["name"] and Path(mount["mountPath"]).parent == Path(folder[1])
    words = shlex.split(container["command"][-1])
    assert (ROOT / words[words.index("--workflow-profile") + 1] / "config.yaml").exists()
    scales = {word.removeprefix("scale=").strip(";") for word in words if word.startswith("scale=")}
    assert all((ROOT / "experiments" / "scales" / f"{scale}.yaml").exists() for scale in scales)
