"""The pipeline at smoke scale on a real Slurm: jobs cancelled and requeued in the middle give the same bits."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlm import yaml_file
from tests.mlm.places import write_yaml
from tests.pipeline.copies import Copy, copy_to, results
from tests.slurm import controller

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        bool(controller.missing()),
        reason=f"no {', '.join(controller.missing())}: apt-get install slurmctld slurmd slurm-client munge",
    ),
]
MINUTES = 8
"""When the pipeline is given up."""
LOGGED_STEPS = 10
"""Between two lines of a run's log, at smoke scale."""
EXPERIMENT: dict[str, Any] = {
    "title": "Three runs",
    "question": "Does it matter where they run?",
    "claim": "It does not.",
    "reference": "none",
    "cost": "seconds",
    "baseline": "mask",
    "arms": {
        "mask": {"masking": {"split": {"mask": 1}}},
        "random": {"masking": {"split": {"random": 1}}},
        "causal": {"objective": "causal"},
    },
    "seeds": 1,
    "measures": {"evaluation": {"sequences": 64}, "probe": None, "pairs": None},
    "primary_measure": "test.yardstick.loss_nats",
    "contrasts": {"primary": {"arm": "random", "expect": "differ"}},
}


@dataclass
class Watched:
    """The finished pipeline, and what was seen of its training processes meanwhile."""

    copy: Copy
    told: str
    devices: list[dict[str, str]] = field(default_factory=list)
    """At each look: run -> CUDA_VISIBLE_DEVICES of the process that trains it."""
    cancelled: str = ""
    requeued: str = ""


def small(folder: Path, variables: dict[str, str] | None = None) -> Copy:
    """A copy whose smoke scale has one experiment of three runs, long enough to be met in the middle."""
    copy = Copy(copy_to(folder).folder, variables=variables or {})
    experiments = copy.folder / "experiments"
    for path in (*experiments.glob("*.yaml"), *copy.folder.glob("paper/experiments/*.md")):
        path.unlink()
    write_yaml(experiments / "cluster.yaml", EXPERIMENT)
    scale = experiments / "scales" / "smoke.yaml"
    content = yaml_file.read(scale)
    content["run"]["budget_tokens"] *= 3
    write_yaml(scale, content | {"experiments": ["cluster"]})
    return copy


def training(folder: Path) -> dict[str, str]:
    """Run -> CUDA_VISIBLE_DEVICES, of the processes that train a run of the copy in a folder."""
    found = {}
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if words[1:4] == ["-m", "mlm", "train"] and process.cwd() == str(folder):
                found[Path(words[4]).name] = process.environ().get("CUDA_VISIBLE_DEVICES", "none")
        except psutil.Error:
            continue  # it has just ended
    return found


def job_of(slurm: controller.Slurm, state: str, run: str) -> str:
    """Slurm's number of the job of a run's training in a state, if there is one."""
    rows = slurm("squeue", "--noheader", f"--states={state}", "--format=%i %k").splitlines()
    return next((row.split()[0] for row in rows if row.endswith(f"rule_train_wildcards_{run}")), "")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("slurm")
    with controller.running(folder / "cluster") as slurm:
        path = f"{folder}/cluster/bin:{Path(sys.executable).parent}:{slurm.variables['PATH']}"
        copy = small(folder / "copy", slurm.variables | {"PATH": path, "PYTHONUNBUFFERED": "1"})
        seen = Watched(copy, "")
        command = ["snakemake", "cluster", "--workflow-profile", "profiles/slurm", "--config", "scale=smoke"]
        # The runs compute on the CPU; the GPUs are only shared out.
        command += ["--set-resources", "train:gpu=1", "--max-threads", "2"]
        command += ["--slurm-init-seconds-before-status-checks", "3"]
        log = folder / "snakemake.log"
        with log.open("w") as stream:
            snakemake = subprocess.Popen(
                ["timeout", "--kill-after=10", str(60 * MINUTES), *command],
                cwd=copy.folder, env=copy.environment, stdin=subprocess.DEVNULL, stdout=stream,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            while snakemake.poll() is None:
                look(slurm, seen)
                time.sleep(0.1)
        finally:
            snakemake.terminate()
            snakemake.wait(60)
        seen.told = log.read_text()
        assert snakemake.returncode == 0, f"{seen.told[-6000:]}\n{slurm.logs()}"
        yield seen


def look(slurm: controller.Slurm, seen: Watched) -> None:
    """Note who trains where; cancel the first run that has saved itself, and requeue the next."""
    now = training(seen.copy.folder)
    if now:
        seen.devices.append(now)
    for run in now:
        saved = any((seen.copy.folder / "results" / "runs" / run / "checkpoints").glob("*.checkpoint"))
        if not saved or run in (seen.cancelled, seen.requeued) or not (job := job_of(slurm, "running", run)):
            continue
        if not seen.cancelled:
            seen.cancelled = run
            slurm("scancel", job)
        elif not seen.requeued:
            seen.requeued = run
            slurm("scontrol", "requeue", job)
    if seen.requeued and seen.requeued not in now and (job := job_of(slurm, "pending", seen.requeued)):
        slurm("scontrol", "update", f"job={job}", "StartTime=now")  # Slurm would wait for two minutes


def test_jobs_at_once_have_gpus_of_their_own(watched: Watched) -> None:
    assert {device for now in watched.devices for device in now.values()} == {"0", "1"}
    assert max(map(len, watched.devices)) == 2
    assert all(len(set(now.values())) == len(now) for now in watched.devices)


def test_a_cancelled_and_a_requeued_job_went_on_where_they_were(watched: Watched) -> None:
    assert watched.cancelled and watched.requeued
    logs = watched.copy.folder / "results" / "logs" / "train"
    for run in (watched.cancelled, watched.requeued):
        # Snakemake removes a job's log before it starts it again, so the log is that of the second process.
        begun = re.search(r"step +(\d+)  training", (logs / f"{run}.log").read_text())
        assert begun and int(begun[1]) > LOGGED_STEPS
    # Snakemake sent the cancelled one again; the requeued one Slurm started again.
    assert watched.told.count("Trying to restart job") == 1


def test_the_results_are_those_without_slurm(watched: Watched, tmp_path: Path) -> None:
    alone = small(tmp_path / "copy")
    alone.snakemake("cluster")
    assert results(watched.copy) == results(alone)
