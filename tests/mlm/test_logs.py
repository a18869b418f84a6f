"""A job's log says what it ran on, what it said and how it ended; `status` tells what failed by it."""

import fcntl
import importlib.metadata
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlm import config, ended, failures, leases, log_head, logs, plan, status, study
from mlm.files import is_locked
from mlm.refusal import refusing
from mlm.runs import RunFolder
from tests import PATIENCE_SECONDS
from tests.mlm.places import EXPERIMENT, copy_of, digests, done, environment, refused

Typed = Callable[..., "subprocess.CompletedProcess[str]"]
Trial = Callable[..., study.Study]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the next command of this process keeps its log."""
    path = tmp_path / "logs" / "job.log"
    monkeypatch.setenv(logs.VARIABLE, str(path))
    return path


def test_a_log_has_its_head_what_was_said_and_an_end(
    place: Path, log: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    said = done(typed(place, "runs"))
    head, _, rest = log.read_text().partition("\n\n")
    lines = dict(line.split(": ", 1) for line in head.splitlines())
    assert lines["=== begun"].endswith(" UTC")
    assert f"torch {importlib.metadata.version('torch')}" in lines["versions"]
    assert f"{len(os.sched_getaffinity(0))} cores of " in lines["device"]
    assert lines["code"].startswith("source ") and lines["Slurm job"] == "4711"
    assert "CUDA_VISIBLE_DEVICES" not in lines and "scale" not in lines
    assert rest.startswith(said), "and the terminal has it too"
    assert rest.removeprefix(said).startswith("=== ended well: ") and "MiB of memory at most\n" in rest
    assert not is_locked(log)


def test_what_is_refused_and_then_goes_well_is_told_by_the_newest_start(
    place: Path, log: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = refused(typed(place, "fill", "no place to fill"))
    assert logs.read(log) == (logs.FAILED, [told.strip().removeprefix("error: ")])
    assert "status 2\n" in log.read_text()
    monkeypatch.setenv(logs.VARIABLE, str(log))
    done(typed(place, "runs"))
    assert logs.read(log) == (logs.WELL, [])
    assert log.read_text().count("=== begun: ") == 2


def test_an_exception_nobody_thought_of_is_in_the_log_with_its_traceback(log: Path) -> None:
    before = sys.stdout, sys.stderr
    with pytest.raises(ZeroDivisionError), logs.kept(), refusing():
        print("\x1b[1;31ma\x1b[0m warning", file=sys.stderr)  # in colour for a person, in plain words here
        print(1 // 0)
    assert (sys.stdout, sys.stderr) == before
    assert logs.read(log) == (logs.FAILED, ["ZeroDivisionError: integer division or modulo by zero"])
    assert "a warning\nTraceback (most recent call last):\n" in log.read_text()


@pytest.mark.parametrize(
    ("code", "state"), [(0, logs.WELL), (None, logs.WELL), (143, logs.STOPPED), (130, logs.STOPPED),
                        (1, logs.FAILED), (137, logs.FAILED), ("told", logs.FAILED)]
)  # fmt: skip
def test_how_a_job_leaves_is_how_it_ended(log: Path, code: object, state: str) -> None:
    with pytest.raises(SystemExit), logs.kept():
        assert logs.VARIABLE not in os.environ, "what it starts keeps no log in this one"
        sys.exit(code)  # type: ignore[arg-type]
    assert logs.read(log).state == state


@pytest.mark.parametrize(
    ("path", "told"), [("/dev/full", "No space left on device; it lacks"), ("/dev/null/x", "no log is kept")]
)  # fmt: skip
def test_a_job_whose_log_cannot_be_written_does_its_work(
    path: str, told: str, place: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = done(typed(place, "runs"))
    errors = io.StringIO()
    monkeypatch.setattr("sys.__stderr__", errors)
    monkeypatch.setenv(logs.VARIABLE, path)
    result = typed(place, "runs")
    assert (result.returncode, result.stdout) == (0, plain)
    said = (errors.getvalue() + result.stderr).splitlines()
    assert len(said) == 1 and said[0].startswith(f"warning: {path}: ") and told in said[0]


JOB = """
import time
from mlm import logs
with logs.kept():
    print("at work", flush=True)
    time.sleep(600)
"""
BECOMING = """
import os, sys
from mlm import logs
with logs.kept(), logs.handed_on():
    code = f"import os, sys; print(os.environ['{logs.VARIABLE}'], flush=True); sys.stdin.read()"
    os.execv(sys.executable, [sys.executable, "-c", code])
"""


def test_a_killed_job_is_live_until_it_is_killed_and_its_shell_says_why(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    variables = environment(**{logs.VARIABLE: str(log)})
    job = subprocess.Popen([sys.executable, "-c", JOB], env=variables, stdout=subprocess.PIPE)
    assert job.stdout and job.stdout.readline()
    assert failures.state(log) == (logs.BEGUN, [])
    job.kill()
    job.wait()
    assert failures.state(log) == (logs.FAILED, [failures.KILLED])
    ended.tell(137, log)
    how, (error,) = failures.state(log)
    assert how == logs.FAILED and error.startswith("killed")
    assert "signal 9" in error or "by the kernel" in error


@pytest.mark.parametrize(
    ("number", "state", "told"),
    [(143, logs.STOPPED, ""), (130, logs.STOPPED, ""), (139, logs.FAILED, "ended by signal 11 (Segmentation"),
     (1, logs.FAILED, "ended with status 1 before it could say why")],
)  # fmt: skip
def test_the_shell_of_a_job_speaks_for_it_where_it_said_nothing(
    tmp_path: Path, number: int, state: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "job.log"
    ended.tell(number, log)
    assert logs.read(log).state == state
    assert "".join(logs.read(log).errors).startswith(told) and told in capsys.readouterr().err
    before = log.read_text()
    ended.tell(2, log)
    assert log.read_text() == before, "how it ended is told once"


def test_of_several_processes_one_says_that_it_went_well_and_any_that_it_failed(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.append(log, logs.BEGUN)
    for rank, code, state in (("1", 0, logs.BEGUN), ("1", 1, logs.FAILED), ("0", 143, logs.FAILED)):
        monkeypatch.setenv(logs.VARIABLE, str(log))
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit), logs.kept():
            sys.exit(code)
        assert logs.read(log).state == state
    assert log.read_text().count("=== begun: ") == 1


def test_the_program_that_a_job_becomes_goes_on_with_its_log(log: Path) -> None:
    command = [sys.executable, "-c", BECOMING]
    job = subprocess.Popen(
        command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert job.stdout and job.stdout.readline().strip() == str(log)
    assert failures.state(log)[0] == logs.BEGUN, "the lock is kept"
    job.communicate()
    assert failures.state(log)[0] == logs.FAILED


def test_the_gpus_of_a_machine_and_the_one_that_a_job_takes_are_told(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in "01":
        (tmp_path / "gpus" / number).mkdir(parents=True)
        (tmp_path / "gpus" / number / "information").write_text("Model: \t\t NVIDIA H200\nIRQ: 7\n")
    monkeypatch.setattr(log_head, "GPUS", tmp_path / "gpus")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setattr(leases, "_held", [])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with logs.kept():
        leases.take(config.Numerics(device="cuda", dtype="bfloat16"))
    text = log.read_text()
    assert "\ndevice: 2 × NVIDIA H200; " in text and "\nCUDA_VISIBLE_DEVICES: 4,7\n" in text
    assert "\ntook a GPU: CUDA_VISIBLE_DEVICES 4\n" in text


def test_a_head_loads_no_torch() -> None:
    code = "import sys; from mlm import log_head, logs; log_head.text(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)


@pytest.fixture
def failing(place: Path, modern: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A copy of the study as the current folder; the digest of a run to train in it."""
    folder = copy_of(place, tmp_path / "place")
    (folder / "results" / "test").mkdir()
    (folder / "results" / "test" / "study.json").write_bytes((place / "results/test/study.json").read_bytes())
    data = folder / "results" / "data"
    data.unlink()
    subprocess.run(["cp", "-r", str(place / "results" / "data"), str(data)], check=True)
    monkeypatch.chdir(folder)
    return modern.path.name


def test_a_run_that_fails_is_told_with_its_error_until_it_has_trained(
    failing: str, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = failures.of_run(failing)
    (tokens,) = Path("results/data/shards").glob("*/train.tokens")
    whole = tokens.read_bytes()

    def train() -> "subprocess.CompletedProcess[str]":
        monkeypatch.setenv(logs.VARIABLE, str(log))
        return typed(Path.cwd(), "train", f"results/runs/{failing}")

    def shown() -> str:
        return done(typed(Path.cwd(), "status", "--scale", "test"))

    assert "6 runs: 6 waiting; about " in shown() and "failed" not in shown()
    tokens.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    error = refused(train()).strip().removeprefix("error: ")
    said = shown()
    assert "6 runs: 1 failed, 5 waiting; about " in said
    assert f"failed: trial/80-10-10/seed-0\n  {error}\n  {log}\n" in said
    with log.open("ab", buffering=0) as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)  # as the next start does
        stream.write(b"=== begun: now\n")
        assert status.of_folder(Path("results/runs") / failing, "").state == "live"
    tokens.write_bytes(whole)
    done(train())
    said = shown()
    assert "6 runs: 1 finished, 5 waiting" in said and error not in said and "failed" not in said
    assert "held out" in log.read_text(), "the lines of a training are in its log"


def test_a_run_that_is_killed_is_told_and_goes_on(failing: str, typed: Typed) -> None:
    log = failures.of_run(failing)
    folder = Path("results/runs") / failing
    train = (
        f"{sys.executable} -m mlm train {folder} --checkpoint-seconds 1e-3 || {sys.executable} -m mlm.ended $?"
    )
    shell = subprocess.Popen(
        ["bash", "-c", train], env=environment(**{logs.VARIABLE: str(log)}), stderr=subprocess.PIPE
    )
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until and not list(folder.glob("checkpoints/*.checkpoint")):
        time.sleep(0.01)
    assert status.of_folder(folder, "").state == "live"
    children = Path(f"/proc/{shell.pid}/task/{shell.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    shell.communicate()
    assert shell.returncode == 137
    said = done(typed(Path.cwd(), "status", "--scale", "test"))
    assert "1 failed" in said and "failed: trial/80-10-10/seed-0\n  killed" in said and str(log) in said


def test_steps_that_are_no_runs_are_told_where_they_are_of_this_study(trial: Trial, typed: Typed) -> None:
    found = trial()
    found.write()
    data = next(iter(found.runs.values())).data
    mine = ["collect/test/trial", f"corpus/{data.corpus.name}", "paper/test"]
    for name in (*mine, "collect/other/trial", "corpus/of-an-edited-file", "train/ab12", "paper/other"):
        logs.append(logs.FOLDER / f"{name}.log", logs.FAILED, f"what {name} said")
    said = done(typed(Path.cwd(), "status", "--scale", "test"))
    for name in mine:
        rule, _, rest = name.partition("/")
        assert f"failed: {rule} {rest}\n  what {name} said\n  results/logs/{name}.log\n" in said
    assert said.count("failed: ") == len(mine)
    logs.append(logs.FOLDER / "paper/test.log", logs.BEGUN)
    logs.append(logs.FOLDER / "paper/test.log", logs.WELL)
    assert done(typed(Path.cwd(), "status", "--scale", "test")).count("failed: ") == len(mine) - 1


def test_no_two_jobs_of_a_study_share_a_log(trial: Trial) -> None:
    other: dict[str, Any] = {
        **EXPERIMENT,
        "arms": {"usual": EXPERIMENT["arms"]["80-10-10"], "much": {"masking": {"rate": 0.4}}},
        "baseline": "usual",
        "contrasts": {"primary": {"arm": "much"}},
        "measures": {"evaluation": {"sequences": 32}},
    }
    found = trial(other=other)
    for untrained in (False, True):
        jobs = [
            (folder, failures.together(measures))
            for measures, folders in found.measured(untrained=untrained)
            for folder in folders
        ]
        assert len(jobs) == len(set(jobs))
    assert len(found.measured()) > len({cell.experiment for cell in found.cells}), "some runs are shared"


def test_time_left_is_the_plan_s_less_what_is_trained(trial: Trial, typed: Typed) -> None:
    def shown() -> str:
        return done(typed(Path.cwd(), "status", "--scale", "test"))

    found = trial()
    found.write()
    reckoner = plan.Reckoner(found)
    whole = reckoner.cost(["trial"])
    digest = digests(found)["bert", 0]
    half = reckoner.cost(["trial"], {digest: 0.5})
    run = found.runs[digest]
    training = reckoner.history.seconds(run.config, run.numerics).seconds
    assert whole.seconds - half.seconds == pytest.approx(training / 2)
    said = shown()
    assert f"about {status.duration(3600 * whole.hours)} left, measures included" in said
    path = Path("experiments/trial.yaml")
    path.write_text(path.read_text().replace("0.15", "0.25"))
    said = shown()
    assert "left, measures" not in said and "time left is not told: experiments or code have changed" in said
    path.write_text("no experiment")
    assert "time left is not told: experiments/trial.yaml" in done(
        typed(Path.cwd(), "status", "--scale", "test")
    )


def test_a_published_study_leaves_the_work_tree_as_it_was_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    for name in ("mlm/code.py", "docs/results/page.md"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("first\n")
    git("init")
    git("add", ".")
    git("commit", "--message=first")
    monkeypatch.setattr(log_head, "ROOT", tmp_path)
    assert log_head.git()["dirty"] is False
    (tmp_path / "docs/results/page.md").write_text("published\n")
    (tmp_path / "untracked").write_text("new\n")
    assert log_head.git()["dirty"] is False
    (tmp_path / "mlm/code.py").write_text("changed\n")
    assert log_head.git()["dirty"] is True
    assert log_head.git()["commit"] is not None
