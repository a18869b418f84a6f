"""The test server, spoken to by the real client: each test is a fact of W&B that the project builds on."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests import PATIENCE_SECONDS
from tests.wandb_server import WandbServer

KEY = "k" * 40
OPEN = """
import wandb
run = wandb.init(entity="e", project="p", id="r", resume="allow", name="n", group="g", tags=["t"], job_type="j",
    config={"a": {"b": 1}}, settings=wandb.Settings(console="off", x_disable_stats=True, x_disable_meta=True,
    disable_git=True, disable_code=True, x_save_requirements=False, finish_timeout=20))
def artifact(name, kind, text="{}", **metadata):
    made = wandb.Artifact(name, kind, metadata=metadata)
    with made.new_file("identity.json") as file:
        file.write(text)
    made.add_reference(f"mlm://{name}", name="content", checksum=False)
    return made
def log(stop, start=None, loss=lambda step: 10 - step):
    for step in range(run.starting_step if start is None else start, stop):
        run.log({"tokens": 100 * step, "loss": loss(step)}, step=step, commit=True)
"""
Client = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer(KEY) as server:
        yield server


@pytest.fixture
def client(server: WandbServer, tmp_path: Path) -> Iterator[Client]:
    """Runs a command, or Python behind OPEN, as a client of the server; `key` and WANDB_* by name."""
    started: list[subprocess.Popen[str]] = []

    def start(*command: str, key: str = KEY, **variables: str) -> subprocess.Popen[str]:
        if len(command) == 1:
            command = (sys.executable, "-c", OPEN + command[0])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        places = {name: str(tmp_path) for name in ("HOME", "WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR")}
        quiet = {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}
        environment = kept | places | quiet | server.environment(key) | variables
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        started.append(process)
        return process

    yield start
    for process in psutil.process_iter(["environ"]):  # wandb-core outlives its client
        if (process.info["environ"] or {}).get("WANDB_BASE_URL") == server.url:
            process.kill()
    for process in started:
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    """All that an ended client printed; it ended well."""
    output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, output
    return output


def test_what_a_run_says_is_kept(server: WandbServer, client: Client) -> None:
    said(client("run.define_metric('tokens'); log(3); run.summary['status'] = 'done'; run.finish()"))
    run = server.runs["e", "p", "r"]
    assert (run.name, run.group, run.tags, run.job_type) == ("n", "g", ["t"], "j")
    assert run.config == {"a": {"b": 1}}
    assert run.rows == [{"tokens": 100 * step, "loss": 10 - step} for step in range(3)]
    assert [row["_step"] for row in run.history] == [0, 1, 2]
    assert run.summary["status"] == "done"
    assert run.summary["loss"] == 8
    assert [metric.get("1") for metric in run.told["m"]] == ["tokens"]
    assert run.state == "finished"
    assert b"loss" in run.files["wandb-summary.json"]
    assert not server.unknown


def test_a_resumed_run_goes_on_where_the_server_stands(server: WandbServer, client: Client) -> None:
    said(client("log(3); run.finish()"))
    said(
        client(
            "assert (run.starting_step, run.step) == (3, 0); log(5, start=0, loss=lambda s: -s); run.finish()"
        )
    )
    assert [row["loss"] for row in server.run("r").rows] == [10, 9, 8, -3, -4]
    read = "api = wandb.Api(timeout=5).run('e/p/r'); print(api.lastHistoryStep, api.state); run.finish()"
    assert said(client(read)).split() == ["4", "running"]
    assert not server.unknown


def test_a_killed_client_leaves_whole_rows_and_the_next_completes_them(
    server: WandbServer, client: Client
) -> None:
    endless = """
import time
print("open", flush=True)
for step in range(10**6):
    log(step + 1, start=step)
    time.sleep(0.01)
"""
    process = client(endless, WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL="1")
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    while not server.run("r").history:
        server.awake.wait(0.02)
    process.kill()
    process.wait()
    assert server.run("r").state == "running"
    said(client("log(300); run.finish()"))
    assert [row["_step"] for row in server.run("r").history] == list(range(300))


def test_lineage(server: WandbServer, client: Client) -> None:
    said(
        client("""
run.log_artifact(artifact("corpus", "corpus", digest="one")).wait()
again = run.log_artifact(artifact("corpus", "corpus", digest="two")).wait()
assert (again.version, again.metadata) == ("v0", {"digest": "one"}), "metadata are not digested"
assert run.log_artifact(artifact("corpus", "corpus", text="[]")).wait().version == "v1"
run.use_artifact("e/p/corpus:v0")
run.use_artifact(artifact("shards", "shards", n=1))
try:
    run.use_artifact("none:latest")
except wandb.errors.CommError as error:
    print(error)
run.log_artifact(artifact("weights", "weights"))
run.finish()
""")
    )
    run = server.run("r")
    assert run.inputs == ["corpus:v0", "shards:v0"]
    assert run.outputs == ["corpus:v0", "corpus:v1", "weights:v0"]
    first, second = server.artifacts["p", "corpus"]
    assert (first.aliases, second.aliases, second.metadata) == ([], ["latest"], {})
    assert second.files == {"identity.json": b"[]"}
    assert second.references == {"content": "mlm://corpus"}
    (shards,) = server.artifacts["p", "shards"]
    assert (shards.type, shards.metadata, shards.state) == ("shards", {"n": 1}, "COMMITTED")
    assert not server.unknown


@pytest.mark.parametrize("tells_lines", [True, False])
def test_syncing_a_folder_twice(server: WandbServer, client: Client, tmp_path: Path, tells_lines: bool) -> None:
    server.tells_lines = tells_lines
    offline = OPEN.replace('resume="allow", ', "") + "log(3); run.finish()"
    said(client(sys.executable, "-c", offline, WANDB_MODE="offline"))
    assert not server.log
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    sync = (str(Path(sys.executable).with_name("wandb")), "sync")
    said(client(*sync, str(folder)))
    assert [row["_step"] for row in server.run("r").history] == [0, 1, 2]
    assert "Skipped 1 synced" in said(client(*sync, str(folder), WANDB_SILENT="false"))
    said(client(*sync, "--include-synced", str(folder)))
    assert [row["_step"] for row in server.run("r").history] == [0, 1, 2] * (2 if tells_lines else 1)
    assert not server.unknown


def test_refused_keys_and_refused_connections(server: WandbServer, client: Client) -> None:
    wrong = client("", key="w" * 40)
    assert "401" in wrong.communicate(timeout=PATIENCE_SECONDS)[0]
    assert wrong.returncode == 1
    server.stop()
    nobody = client("", WANDB_INIT_TIMEOUT="1")
    assert "CommError" in nobody.communicate(timeout=PATIENCE_SECONDS)[0]
    assert not server.runs


def test_a_server_that_fails_in_the_middle(server: WandbServer, client: Client) -> None:
    """Dead, 500, cut off before and after a chunk was kept, slow: nothing lost, nothing twice."""
    slow = {"WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1", "WANDB_X_FILE_STREAM_RETRY_WAIT_MIN_SECONDS": "1"}
    process = client(
        "import time; print('open', flush=True); log(20); time.sleep(1.5); log(40, 20); run.finish()", **slow
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    server.fail("file_stream", status=500, times=1)
    server.fail("file_stream", cut="response", times=1)
    server.fail("file_stream", cut="request", times=1)
    server.fail("PUT", delay=0.3)
    server.stop()
    server.awake.wait(0.5)
    server.start()
    said(process)
    assert [row["_step"] for row in server.run("r").history] == list(range(40))
    assert server.run("r").state == "finished"
    assert {request.status for request in server.log if request.what == "file_stream"} >= {500, None, 200}


def test_a_report(server: WandbServer, client: Client) -> None:
    pytest.importorskip("wandb_workspaces")
    report = """
import wandb_workspaces.reports.v2 as wr
report = wr.Report(entity="e", project="p", title="T", blocks=[wr.H1("one")]).save()
report.blocks.append(wr.P("two"))
report.save()
assert wr.Report.from_url(report.url).title == "T"
"""
    said(client(sys.executable, "-c", report))
    (kept,) = server.reports.values()
    assert (kept["displayName"], kept["project"]["name"]) == ("T", "p")
    assert "two" in kept["spec"]
    assert not server.unknown
