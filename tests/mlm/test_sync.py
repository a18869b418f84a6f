"""Online: what a server on loopback holds is what the files say, however the two were parted."""

import base64
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from mlm.projection import rows
from mlm.runs import RunFolder
from tests import PATIENCE_SECONDS
from tests.mlm.places import EXPERIMENT, SCALE, done, environment, found_study, mlm
from tests.wandb_server import WandbServer

pytestmark = pytest.mark.long
KEY = "0123456789abcdef0123456789abcdef01234567"
STEP = 16 * 8
ARMS = {**EXPERIMENT["arms"], "long": {"budget_tokens": STEP * 1200}}


@pytest.fixture(scope="module")
def study(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planned run, one long enough to be interrupted, and their data; W&B gets four seconds after the end."""
    scale = {**SCALE, "run": {**SCALE["run"], "budget_tokens": STEP * 240, "log_every_tokens": STEP * 20,
                              "curve": {"every_tokens": STEP * 60, "sequences": 8}}}  # fmt: skip
    folder = found_study(
        tmp_path_factory.mktemp("online"),
        {**scale, "wandb": {"wait_seconds": 4}},
        trial={**EXPERIMENT, "arms": ARMS},
    )
    (folder / "results").mkdir()
    shutil.copytree(place / "results" / "data", folder / "results" / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        from mlm.planner import load_study

        load_study("test").write()
    return folder


@pytest.fixture
def here(study: Path, tmp_path: Path) -> Path:
    """The planned study in a folder of its own."""
    return Path(shutil.copytree(study, tmp_path / "study"))


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer(key=KEY) as running:
        yield running


@pytest.fixture(scope="module")
def alone(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study with its run trained without W&B."""
    folder = Path(shutil.copytree(study, tmp_path_factory.mktemp("alone") / "study"))
    done(mlm(folder, "train", run_of(folder), WANDB_MODE="disabled"))
    return folder


@pytest.fixture
def trained(alone: Path, tmp_path: Path) -> Path:
    """The trained study in a folder of its own."""
    return Path(shutil.copytree(alone, tmp_path / "study"))


@pytest.fixture(scope="module")
def undisturbed(alone: Path) -> bytes:
    """The weights of the run without W&B."""
    return (alone / run_of(alone) / "weights.safetensors").read_bytes()


def run_of(folder: Path, arm: str = "80-10-10") -> str:
    """A run's folder, from the root of the study."""
    index = json.loads((folder / "results" / "test" / "study.json").read_text())["index"]
    return "results/runs/" + next(c["digest"] for c in index if (c["arm"], c["seed"]) == (arm, 0))


def wandb(server: WandbServer, folder: Path) -> dict[str, str]:
    # W&B itself sends every 15 seconds, and is given a minute for the end.
    quick = {"WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1", "WANDB_FINISH_TIMEOUT": "8"}
    return {**server.environment(KEY), **quick, "HOME": str(folder / "home")}


def train(
    server: WandbServer, folder: Path, arm: str = "80-10-10", **more: str
) -> subprocess.CompletedProcess[str]:
    words = ("train", run_of(folder, arm), "--checkpoint-seconds", "0.2")
    return mlm(folder, *words, **wandb(server, folder), **more)


def start(server: WandbServer, folder: Path, arm: str = "80-10-10") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mlm", "train", run_of(folder, arm), "--checkpoint-seconds", "0.2"]
    return subprocess.Popen(
        command, cwd=folder, env=environment(**wandb(server, folder)), stdout=subprocess.DEVNULL
    )


def history(server: WandbServer, folder: Path, arm: str = "80-10-10") -> list[dict[str, Any]]:
    run = server.run(Path(run_of(folder, arm)).name)
    assert None not in run.history, "no line is missing"
    return [
        {k: v for k, v in line.items() if not k.startswith("_")} for line in run.history if line is not None
    ]


def expected(folder: Path, arm: str = "80-10-10") -> list[dict[str, Any]]:
    lines = (folder / run_of(folder, arm) / "metrics.jsonl").read_text().splitlines()
    return json.loads(json.dumps(list(rows(json.loads(line) for line in lines))))


def assert_complete(server: WandbServer, folder: Path, weights: bytes, arm: str = "80-10-10") -> None:
    assert (folder / run_of(folder, arm) / "weights.safetensors").read_bytes() == weights
    assert history(server, folder, arm) == expected(folder, arm)
    run = server.run(Path(run_of(folder, arm)).name)
    outcome = json.loads((folder / run_of(folder, arm) / "run.json").read_text())
    assert run.summary["realised"] == outcome["realised"]
    losses = [row["train/loss_nats"] for row in expected(folder, arm) if "train/loss_nats" in row]
    assert run.summary["train/loss_nats"] == pytest.approx({"min": min(losses), "last": losses[-1]})
    assert run.config["arms"] == {"trial": arm}
    assert run.state == "finished"


def sync(server: WandbServer, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return mlm(folder, "sync", **wandb(server, folder), **more)


def test_curves_stream_while_the_run_trains(server: WandbServer, here: Path) -> None:
    process = start(server, here, "long")
    seen: set[int] = set()
    while process.poll() is None:
        seen |= {len(run.history) for run in server.runs.values()}
        time.sleep(0.05)
    assert process.returncode == 0
    found = expected(here, "long")
    assert history(server, here, "long") == found
    assert any(0 < lines < len(found) for lines in seen), "some lines came before the end"


@pytest.fixture(scope="module")
def long_undisturbed(study: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of the long run without W&B."""
    folder = Path(shutil.copytree(study, tmp_path_factory.mktemp("long") / "study"))
    done(mlm(folder, "train", run_of(folder, "long"), WANDB_MODE="disabled"))
    return (folder / run_of(folder, "long") / "weights.safetensors").read_bytes()


@pytest.mark.parametrize("tells_lines", [True, False])
def test_killed_and_resumed_there_are_no_doubles_and_no_gaps(
    tells_lines: bool, server: WandbServer, here: Path, long_undisturbed: bytes
) -> None:
    server.tells_lines = tells_lines  # what the real server tells of a known run is not documented
    chance = random.Random(7)
    checkpoints = here / run_of(here, "long") / "checkpoints"
    for _ in range(3):
        process = start(server, here, "long")
        known = len(list(checkpoints.glob("*")))
        while process.poll() is None and len(list(checkpoints.glob("*"))) <= min(known, 1):
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 1))
        assert process.poll() is None, "it was killed while it trained"
        process.send_signal(signal.SIGKILL)
        process.wait()
    done(train(server, here, "long"))
    assert_complete(server, here, long_undisturbed, "long")


@pytest.mark.parametrize("trouble", ["absent", "error 500", "refused key", "slow", "cut off", "restarted"])
def test_a_server_in_trouble_disturbs_nothing_and_sync_completes_it(
    trouble: str, server: WandbServer, here: Path, undisturbed: bytes, passing: Path
) -> None:
    timer, apart = None, {"TMPDIR": str(passing)}
    if trouble == "absent":
        server.stop()
    elif trouble == "error 500":
        server.fail(status=500)
    elif trouble == "refused key":
        server.fail(status=401)
    elif trouble == "slow":
        server.fail(delay=2)
    elif trouble == "cut off":
        server.fail("file_stream", cut="request")
    else:

        def restart() -> None:
            server.stop()
            time.sleep(1)
            server.start()

        timer = threading.Timer(3, restart)
        timer.start()
    said = train(server, here, **apart)
    if timer is not None:
        timer.join()
    assert said.returncode == 0, said.stderr
    assert "Traceback" not in said.stderr
    assert said.stderr.count("warning: ") <= 1
    if trouble in ("absent", "error 500", "refused key", "cut off"):
        assert said.stderr.count("python -m mlm sync") == 1, said.stderr
    assert (here / run_of(here) / "weights.safetensors").read_bytes() == undisturbed
    assert not list(passing.iterdir())
    server.heal()
    if trouble == "absent":
        server.start()
    first = done(sync(server, here, **apart))
    assert_complete(server, here, undisturbed)
    again = done(sync(server, here, **apart))
    assert again.startswith("0 W&B runs uploaded"), (first, again)
    assert_complete(server, here, undisturbed)
    assert not list(passing.iterdir())


def test_a_crash_of_wandb_in_the_middle_disturbs_nothing(
    server: WandbServer, here: Path, undisturbed: bytes
) -> None:
    process = start(server, here)
    trainer, killed = psutil.Process(process.pid), 0
    while process.poll() is None and not killed:
        for child in trainer.children(recursive=True):
            if "wandb-core" in child.name():
                child.kill()
                killed += 1
        time.sleep(0.02)
    assert killed, "wandb was there to be killed"
    assert process.wait(PATIENCE_SECONDS) == 0
    done(sync(server, here))
    assert_complete(server, here, undisturbed)


def test_a_full_disk_fails_no_run(here: Path, tmp_path: Path, undisturbed: bytes) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs root, to mount a small disk")
    try:
        said = mlm(
            here, "train", run_of(here), WANDB_MODE="offline", WANDB_DIR=str(small), HOME=str(here / "home")
        )
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert said.returncode == 0
    assert said.stderr.count("warning: ") == 1, said.stderr
    assert "Traceback" not in said.stderr
    assert (here / run_of(here) / "weights.safetensors").read_bytes() == undisturbed


def test_sync_that_is_cut_off_says_so_and_the_next_goes_on(
    server: WandbServer, trained: Path, undisturbed: bytes
) -> None:
    server.fail("CommitArtifact", status=500)
    said = sync(server, trained)
    assert said.returncode == 1
    assert "not uploaded: " in said.stderr
    assert "Traceback" not in said.stderr
    server.heal()
    done(sync(server, trained))
    assert_complete(server, trained, undisturbed)


def test_lineage_is_real_edges(server: WandbServer, trained: Path) -> None:
    done(sync(server, trained))
    run = RunFolder.open(trained / run_of(trained))
    shards = server.run(f"shards-{run.record['data']['shards']}")
    pieces, text = server.run(run.record["data"]["vocabulary"]), server.run(run.record["data"]["corpus"])

    def made(name: str) -> Any:
        (only,) = server.artifacts["mlm", name]
        return only

    assert server.run(run.path.name).inputs == [f"{shards.id}:v0"]
    assert f"weights-{run.path.name}:v0" in server.run(run.path.name).outputs
    assert set(shards.inputs) == {f"{pieces.id}:v0", f"{text.id}:v0"}
    assert pieces.inputs == [f"{text.id}:v0"]
    assert [one.outputs for one in (text, pieces, shards)] == [
        [f"{one.id}:v0"] for one in (text, pieces, shards)
    ]
    outcome = json.loads((run.path / "run.json").read_text())
    assert made(f"weights-{run.path.name}").metadata["sha256"] == outcome["files"]["weights.safetensors"]
    model = trained / "results" / "data" / "vocabularies" / pieces.id / "vocabulary.model"
    assert made(pieces.id).files["vocabulary.model"] == model.read_bytes()
    assert set(made(text.id).files) == {"corpus.json"}, "no text leaves the machine"
    assert set(made(f"weights-{run.path.name}").files) == {"config.json", "run.json"}


def with_results(folder: Path) -> dict[str, Any]:
    """Beside a trained run what an analysis leaves: a table of contrasts and a figure."""
    tables, figures = (folder / "results" / "test" / kind / "trial" for kind in ("tables", "figures"))
    for made in (tables, figures):
        made.mkdir(parents=True)
    (tables / "contrasts.csv").write_text(
        "arm,n,difference,low,high\n15,8,-0.05,-inf,0.25\nbert,7,0.5,0.25,1\n"
    )
    Image.new("RGB", (5, 3), "teal").save(figures / "curves.png")
    return {
        "name": "test/trial",
        "columns": ["arm", "n", "difference", "low", "high"],
        "data": [["15", 8, -0.05, None, 0.25], ["bert", 7, 0.5, 0.25, 1]],
    }


def test_tables_figures_and_edges_of_an_experiment_also_after_a_move(
    server: WandbServer, trained: Path
) -> None:
    stated = with_results(trained)
    moved = trained.rename(trained.parent / "elsewhere")
    done(sync(server, moved))
    (analysed,) = [run for run in server.runs.values() if run.job_type == "analysis"]
    assert analysed.name == stated["name"]

    def table(name: str) -> dict[str, Any]:
        return json.loads(analysed.files[analysed.summary[name]["path"]])

    shown = table("contrasts")
    assert [shown["columns"], shown["data"]] == [stated["columns"], stated["data"]]
    drawn = json.loads((moved / run_of(moved) / "run.json").read_text())["realised"]
    (row,) = table("realised_split")["data"]
    realised = dict(zip(table("realised_split")["columns"], row, strict=True))
    assert (realised["arm"], realised["seed"], realised["mask_rate"]) == ("80-10-10", 0, 0.15)
    assert realised["mask_rate_drawn"] == drawn["selected"] / drawn["eligible"]
    assert realised["random_drawn"] == drawn["random"] / drawn["selected"]
    picture = analysed.files[analysed.summary["figures/curves"]["path"]]
    assert picture == (moved / "results/test/figures/trial/curves.png").read_bytes()
    weights = f"weights-{Path(run_of(moved)).name}:v0"
    assert analysed.inputs == [weights]
    (made,) = server.artifacts["mlm", analysed.id]
    assert set(made.files) == {"tables/trial/contrasts.csv", "figures/trial/curves.png"}


def test_each_study_goes_where_its_scale_file_says(server: WandbServer, trained: Path) -> None:
    scale = trained / "experiments" / "scales" / "test.yaml"
    scale.write_text(scale.read_text().replace("wandb:\n", "wandb:\n  project: masking\n  entity: lab\n"))
    done(sync(server, trained))
    assert {run[:2] for run in server.runs} == {("lab", "masking")}
    assert done(sync(server, trained)).startswith("0 W&B runs uploaded")
    done(mlm(trained, "sync", **wandb(server, trained), WANDB_PROJECT="another"))
    assert {run[:2] for run in server.runs} == {("lab", "masking"), ("lab", "another")}
    assert done(sync(server, trained)).startswith("0 W&B runs uploaded"), "one destination forgets no other"


def test_several_studies_go_each_where_its_own_scale_file_says(server: WandbServer, trained: Path) -> None:
    scales, results, run = trained / "experiments" / "scales", trained / "results", trained / run_of(trained)
    stated = "wandb:\n  project: masking\n  entity: lab\n  upload_weights: true\n"
    (scales / "another.yaml").write_text((scales / "test.yaml").read_text().replace("wandb:\n", stated))
    shutil.copytree(results / "test", results / "another")
    labels = json.loads((run / "labels.json").read_text())
    (run / "labels.json").write_text(json.dumps([["another", *labels[0][1:]], *labels]))
    done(sync(server, trained))
    places = {found[:2] for found in server.runs if found[2] == run.name}
    assert places == {("lab", "masking"), ("tester", "mlm")}
    files = {}
    for project in ("masking", "mlm"):
        (weights,) = server.artifacts[project, f"weights-{run.name}"]
        files[project] = set(weights.files)
    assert files["mlm"] == {"config.json", "run.json"}
    assert files["masking"] == files["mlm"] | {"weights.safetensors"}


def test_two_at_once_offline_write_each_run_once(trained: Path) -> None:
    with_results(trained)
    command = [
        sys.executable,
        "-m",
        "mlm",
        "sync",
        "--scale",
        "test",
        "--experiment",
        "trial",
        "--as-configured",
    ]
    both = [
        subprocess.Popen(
            [*command, f"{n}.json"], cwd=trained, env=environment(WANDB_MODE="offline", HOME=str(trained))
        )
        for n in range(2)
    ]
    assert [process.wait(60) for process in both] == [0, 0]
    told = [json.loads((trained / f"{n}.json").read_text())["told"] for n in range(2)]
    assert sorted(told) == ["0 W&B runs written offline", "2 W&B runs written offline"], told
    folders = list((trained / "results" / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    assert all(list(folder.glob("*.wandb")) for folder in folders)


def test_in_the_pipeline_a_failure_is_told_and_ends_nothing(trained: Path) -> None:
    (trained / "file").write_text("in the way")
    words = ("sync", "--scale", "test", "--experiment", "trial", "--as-configured", "told.json")
    done(mlm(trained, *words, WANDB_MODE="offline", WANDB_DIR="file"))
    assert json.loads((trained / "told.json").read_text())["told"].startswith(
        "warning: trial: Weights & Biases: "
    )
    done(mlm(trained, *words, WANDB_MODE="disabled", WANDB_DIR="file"))
    assert json.loads((trained / "told.json").read_text())["told"] == "Weights & Biases is disabled"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--experiment", "trail"), "there are: trial"),
        (("--scale", "lap"), "begun: test"),
        ((), "nothing has ended"),
    ],
)
def test_what_cannot_be_uploaded_is_refused(words: tuple[str, ...], told: str, here: Path) -> None:
    said = mlm(here, "sync", *words, WANDB_API_KEY=KEY)
    assert said.returncode == 2
    assert told in said.stderr
    assert "Traceback" not in said.stderr


def test_one_damaged_run_keeps_no_other_back(server: WandbServer, trained: Path) -> None:
    with_results(trained)
    other = json.loads((trained / "results" / "test" / "study.json").read_text())["index"]
    digest = next(c["digest"] for c in other if (c["arm"], c["seed"]) == ("80-10-10", 1))
    damaged = trained / "results" / "runs" / digest
    kept = shutil.ignore_patterns("config.json", "labels.json")
    shutil.copytree(trained / run_of(trained), damaged, dirs_exist_ok=True, ignore=kept)
    (damaged / "metrics.jsonl").write_text("torn")
    said = sync(server, trained)
    assert said.returncode == 1
    assert f"{digest}/metrics.jsonl" in said.stderr
    assert server.run(Path(run_of(trained)).name).state == "finished"


def test_an_experiment_of_a_damaged_run_keeps_no_later_one_back(server: WandbServer, trained: Path) -> None:
    with_results(trained)
    path = trained / "results" / "test" / "study.json"
    study = json.loads(path.read_text())
    cells = {(c["arm"], c["seed"]): c for c in study["index"]}
    cells["80-10-10", 0]["experiment"] = "zebra"
    study["experiments"]["zebra"] = study["experiments"]["trial"]
    path.write_text(json.dumps(study))
    tables = trained / "results" / "test" / "tables"
    shutil.copytree(tables / "trial", tables / "zebra")
    good, bad = (trained / "results" / "runs" / cells["80-10-10", seed]["digest"] for seed in (0, 1))
    kept = shutil.ignore_patterns("config.json", "labels.json")
    shutil.copytree(good, bad, dirs_exist_ok=True, ignore=kept)
    (good / "labels.json").write_text(json.dumps([["test", "zebra", "80-10-10", 0]]))
    measured = bad / study["experiments"]["trial"]["measure_files"]["evaluation"]
    measured.write_text('{"values": ')
    said = sync(server, trained)
    assert said.returncode == 1
    assert f"test/trial: weights-{bad.name}: its run was not uploaded" in said.stderr
    assert measured.name in said.stderr
    ended = {run.name for run in server.runs.values() if run.state == "finished"}
    assert {"zebra/80-10-10/seed-0", "test/zebra"} <= ended


def test_the_key_is_nowhere(server: WandbServer, here: Path) -> None:
    loud = {"WANDB_DEBUG": "true", "WANDB_CORE_DEBUG": "true"}
    said = [train(server, here, **loud), mlm(here, "sync", **wandb(server, here), **loud)]
    server.fail(status=401)
    shutil.rmtree(here / "results" / "wandb" / "uploaded")
    said.append(sync(server, here))
    assert said[-1].returncode == 1
    assert not any(KEY in text for one in said for text in (one.stdout, one.stderr))
    spellings = (KEY.encode(), base64.b64encode(f"api:{KEY}".encode()))
    files = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    found = [path for path, content in files.items() if any(spelling in content for spelling in spellings)]
    assert not found
    assert any(path.suffix == ".wandb" for path in here.rglob("*")), "W&B wrote here"
    assert os.environ.get("WANDB_API_KEY") != KEY
