"""GPUs are shared out by leases: real processes, GPUs that are only named."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm import config, devices, files, leases
from mlm.errors import InputError

CUDA = config.Numerics(device="cuda", dtype="bfloat16")
NAMES = [
    "0,1,2",
    "3, 1 ,2",
    "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6,GPU-1,GPU-2",
    "MIG-GPU-c6d4f1ef/1/0,MIG-GPU-c6d4f1ef/2/0,MIG-b8e7f4a0-5b67",
]


class Said:
    """A stream that sends what is printed to it, a line at a time."""

    def __init__(self, end: Connection) -> None:
        self.end = end

    def write(self, text: str) -> None:
        if text.strip():
            self.end.send(text)

    def flush(self) -> None:
        pass


class Holder(NamedTuple):
    """A process that takes a lease, says what it sees then, and holds it until it is killed."""

    process: BaseProcess
    end: Connection

    def says(self) -> str:
        assert self.end.poll(30), "nothing was said in half a minute"
        return str(self.end.recv())

    def kill(self) -> None:
        self.process.kill()
        self.process.join(10)


def hold(end: Connection, variables: Mapping[str, str]) -> None:
    """What the process of a `Holder` does."""
    for name in [name for name in os.environ if name.startswith(("CUDA_", "SLURM_", "MLM_RUNS"))]:
        del os.environ[name]
    os.environ.update(variables)
    sys.stderr = Said(end)  # type: ignore[assignment]
    for _ in range(2):  # who has a lease takes no other
        try:
            leases.take(CUDA, int(os.environ.get("PROCESSES", "1")))
        except InputError as error:
            end.send(str(error))
    end.send(os.environ["CUDA_VISIBLE_DEVICES"])
    end.recv()


Start = Callable[..., Holder]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts holders in an environment of their own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    started: list[Holder] = []

    def one(visible: str, **variables: str) -> Holder:
        ours, theirs = get_context("fork").Pipe()
        told = (theirs, {"CUDA_VISIBLE_DEVICES": visible, **variables})
        started.append(Holder(get_context("fork").Process(target=hold, args=told, daemon=True), ours))
        started[-1].process.start()
        return started[-1]

    yield one
    for holder in started:
        holder.kill()


@pytest.mark.parametrize("names", NAMES)
def test_as_many_processes_as_gpus_have_one_each_and_a_killed_ones_is_free_at_once(
    start: Start, names: str
) -> None:
    holders = {holder.says(): holder for holder in [start(names) for _ in range(3)]}
    assert set(holders) == {name.strip() for name in names.split(",")}
    waiting = start(names)
    assert waiting.says().startswith("waiting for a GPU")
    freed = sorted(holders)[1]
    holders[freed].kill()
    assert waiting.says() == freed


def test_processes_that_share_are_spread_over_the_gpus(start: Start) -> None:
    def one() -> str:
        return start("0,1", MLM_RUNS_PER_GPU="2").says()

    assert {one(), one()} == {"0", "1"}
    assert {one(), one()} == {"0", "1"}
    assert one().startswith("waiting for a GPU")


def test_what_is_not_to_be_chosen_is_left_as_it_is(start: Start) -> None:
    for names in ("", "-1", "-1,0"):
        assert start(names).says() == names
    # Where cgroups hide the others, every job's GPU is called 0.
    assert [start("0", SLURM_JOB_ID=job).says() for job in ("7", "8")] == ["0", "0"]


def test_the_processes_of_one_run_take_one_each(start: Start) -> None:
    assert {start("4,5", LOCAL_RANK=rank).says() for rank in ("0", "1")} == {"4", "5"}


def test_the_processes_of_one_run_take_different_gpus_also_where_runs_share_them(start: Start) -> None:
    """What is free is two places on one GPU, and NCCL takes no two processes there."""
    shared = {"MLM_RUNS_PER_GPU": "2"}
    alone = start("4,5", **shared)
    assert alone.says() == "4"
    ended = start("4,5", **shared)
    assert ended.says() == "5"
    assert start("4,5", **shared).says() == "4"
    ended.kill()
    assert start("4,5", PROCESSES="2", **shared).says() == "5"
    second = start("4,5", PROCESSES="2", **shared)
    assert second.says().startswith("waiting for a GPU")
    alone.kill()
    assert second.says() == "4"


def test_a_run_of_more_processes_than_gpus_is_refused_where_one_would_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    monkeypatch.setenv(leases.SHARE, "1")
    with pytest.raises(InputError, match=r"numerics\.processes: a run has 3 processes, .* here are 2; "):
        leases.take(CUDA, 3)
    with pytest.raises(InputError, match=r"3 processes, each on a GPU, and no more than 2 may compute at once"):
        leases.limit(None, {}, here=True, processes=3)
    with pytest.raises(InputError, match=r"3 processes, each on a GPU of its own, and here are 2"):
        leases.limit(4, {}, here=True, processes=3)
    monkeypatch.setenv(leases.SHARE, "2")
    with pytest.raises(InputError, match="here are 2"):
        leases.take(CUDA, 3)
    with pytest.raises(InputError, match="no more than 2"):
        leases.limit(2, {}, here=False, processes=3)
    assert leases.limit(None, {}, here=False, processes=3) is None  # where jobs go there may be more
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(InputError, match="here are 1"):
        leases.take(CUDA, 3)


def test_who_computes_alone_for_a_run_of_several_processes_takes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who compiles its step or measures it, on a cluster with the one GPU that its job asked for."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    leases.take(CUDA.model_copy(update={"processes": 4}))


def test_an_error_that_is_no_lock_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where locks are not there at all, or memory or files run out, nobody ever lets go."""

    def unlockable(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unlockable)
    with pytest.raises(OSError, match="No locks available"):
        leases._locked(tmp_path / "0", 0, None)
    (tmp_path / "lock").touch()
    with pytest.raises(OSError, match="No locks available"):
        files.is_locked(tmp_path / "lock")


def test_the_gpus_of_a_slurm_job_are_shared_out_within_it(start: Start) -> None:
    for job in ("7", "8"):
        assert {start("2,3", SLURM_JOB_ID=job).says() for _ in range(2)} == {"2", "3"}


def test_a_share_that_is_no_number_is_refused(start: Start) -> None:
    for share in ("0.5", "0", "", "two"):
        assert "MLM_RUNS_PER_GPU: is" in start("0", MLM_RUNS_PER_GPU=share).says()


def test_numerics_of_the_cpu_take_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    leases.take(config.Numerics(device="cpu", dtype="float32"))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


@given(st.lists(st.integers(-2, 5).map(str), max_size=6))
def test_a_list_ends_where_cuda_ends_it(names: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", ",".join(names))
        seen = leases.visible()
    hidden = [at for at, name in enumerate(names) if int(name) < 0]
    assert len(set(seen)) == len(seen)
    assert set(seen) == set(names[: hidden[0] if hidden else len(names)])


def test_without_a_list_the_driver_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert len(leases.visible()) == devices.cuda_devices()


DRIVER = """
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static int owner, count;
int cuInit(unsigned flags) {
    if (owner) return owner == getpid() ? 0 : 3;
    const char *told = getenv("CUDA_VISIBLE_DEVICES");
    owner = getpid();
    for (count = told ? 1 : 8; told && *told; told++) count += *told == ',';
    return 0;
}
int cuDeviceGetCount(int *found) { *found = count; return owner == getpid() ? 0 : 3; }
int cuDeviceGet(int *found, int number) { *found = 40 + number; return number < count ? 0 : 101; }
int cuDeviceGetAttribute(int *found, int what, int device) {
    if (what != 75) return 1;
    *found = atoi(getenv("GENERATIONS") + 2 * (device - 40) % strlen(getenv("GENERATIONS")));
    return 0;
}
"""
BY_HAND = """
import os
from mlm import config, devices, experiment, leases, planner
numerics = planner._numerics(experiment.Scale.model_construct(numerics=None, compile=False), "none")
print(numerics.device, numerics.dtype)
print(leases.limit(None, {}, here=True))
leases.take(config.Numerics(device="cuda", dtype="bfloat16"))
print(os.environ["CUDA_VISIBLE_DEVICES"], devices.cuda_devices())
"""


@pytest.mark.parametrize(
    ("generations", "dtype"), [("8", "bfloat16"), ("9 8", "bfloat16"), ("7", "float32"), ("9 7", "float32")]
)
def test_a_process_that_plans_before_it_takes_a_gpu_sees_that_one(
    tmp_path: Path, generations: str, dtype: str
) -> None:
    """As CUDA's driver: the first call fixes what a process sees, and what is forked from it sees nothing.

    A study is planned in bfloat16 where every GPU multiplies it itself.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler, to make a driver")
    source = tmp_path / "driver.c"
    source.write_text(DRIVER)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", source], check=True)
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").touch()
    (tmp_path / "torch" / "version.py").write_text("cuda = '12.8'\n")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CUDA_", "SLURM_", "MLM_RUNS"))}
    places = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}", "TMPDIR": str(tmp_path)}
    places["GENERATIONS"] = generations
    said = subprocess.run(
        [sys.executable, "-c", BY_HAND],
        cwd=tmp_path, env={**kept, **places, "LD_LIBRARY_PATH": str(tmp_path)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert said.stdout.splitlines() == [f"cuda {dtype}", "8", "0 1"], said.stderr


@pytest.mark.parametrize(
    ("jobs", "asked", "told"),
    [
        (0, {}, "--resources gpu=0"),
        (-1, {}, "--resources gpu=-1"),
        ("two", {}, "--resources gpu=two"),
        (1, {"train": 2}, "the limit is 1"),
        (None, {"train": 0}, "train:gpu=0: its jobs need a GPU"),
        (None, {"train": "many"}, "train:gpu=many"),
    ],
)
@pytest.mark.parametrize("here", [True, False])
def test_limits_under_which_jobs_would_get_less_are_refused(
    monkeypatch: pytest.MonkeyPatch, jobs: object, asked: Mapping[str, object], told: str, here: bool
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    monkeypatch.setenv(leases.SHARE, "1")
    with pytest.raises(InputError, match=told):
        leases.limit(jobs, asked, here)


def test_the_limit_here_is_what_there_is_and_a_cluster_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    for jobs, limit, share in ((None, 2, "1"), (1, 1, "1"), (3, 3, "2"), (8, 8, "4")):
        monkeypatch.setenv(leases.SHARE, "7")
        assert (leases.limit(jobs, {}, here=True), os.environ[leases.SHARE]) == (limit, share)
    with pytest.raises(InputError, match="the limit is 2"):
        leases.limit(None, {"train": 3}, here=True)
    assert leases.limit(None, {"train": 3}, here=False) is None


SNAKEFILE = """
from mlm import leases

workflow.global_resources["gpu"] = leases.limit(workflow.global_resources.get("gpu").value, {}, True)


rule all:
    input:
        expand("{n}.txt", n=range(5)),


rule compute:
    output:
        "{n}.txt",
    resources:
        gpu=1,
    shell:
        "python hold.py {output}"
"""
COMPUTE = """
import os, sys, time
from pathlib import Path
from mlm import config, leases
leases.take(config.Numerics(device="cuda", dtype="bfloat16"))
took = time.monotonic()
Path(sys.argv[1]).with_suffix(".took").touch()
while len(list(Path().glob("*.took"))) < int(os.environ["AT_ONCE"]) and time.monotonic() < took + 600:
    time.sleep(.05)  # the others of the first round
time.sleep(.3)  # and one too many, if it comes
Path(sys.argv[1]).write_text(f"{os.environ['CUDA_VISIBLE_DEVICES']} {took} {time.monotonic()}")
"""


@pytest.mark.parametrize(("limit", "at_once"), [([], 2), (["--resources", "gpu=4"], 4)])
def test_snakemake_starts_as_many_jobs_as_there_are_gpus_or_as_it_is_told(
    tmp_path: Path, limit: list[str], at_once: int
) -> None:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "hold.py").write_text(COMPUTE)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    root = str(Path(__file__).parents[2])
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SNAKEMAKE_"))} | {
        "PATH": path, "PYTHONPATH": root, "TMPDIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": "4,GPU-5",
        "AT_ONCE": str(at_once),
    }  # fmt: skip
    done = subprocess.run(
        ["snakemake", "--cores", "5", *limit],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [path.read_text().split() for path in tmp_path.glob("*.txt")]
    spans = [(name, float(begin), float(end)) for name, begin, end in rows]
    moments = [Counter(name for name, begin, end in spans if begin <= at < end) for _, at, _ in spans]
    assert max(moment.total() for moment in moments) == at_once
    assert all(set(moment) <= {"4", "GPU-5"} and max(moment.values()) <= at_once // 2 for moment in moments)
    assert "waiting for a GPU" not in done.stdout + done.stderr  # nobody was started to wait
