"""The whole line from text to paper at smoke scale: it completes, and knows what is done."""

import csv
import json
import os
import re
import shutil
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from analysis import outputs
from mlm import failures, identity, logs, planner
from tests.pipeline.copies import SCALE, Copy, results

SEEDS, ARMS = 2, 7
ANALYSIS = (
    "collect",
    "contrasts",
    "table",
    "figures",
    "wandb",
    "numbers",
    "paper",
    "comparison",
    "report_page",
)


def jobs(output: str) -> Counter[str]:
    """Rule -> number of jobs that a dry run lists; `measure` of measure_1, measure_2, …."""
    table = output.rpartition("Job stats:")[2]
    found: Counter[str] = Counter()
    for name, n in re.findall(r"^([a-z_]+?)(?:_\d+|_split)?\s+(\d+)$", table, re.MULTILINE):
        found[name] += int(n)
    return found


def cells(smoke: Copy) -> list[dict[str, Any]]:
    """What the scale runs: the other experiments are planned, too, to be asked for by name."""
    study = json.loads((smoke.folder / "results/smoke/study.json").read_text())
    assert study["named"] == ["split"]
    return [cell for cell in study["index"] if cell["experiment"] == "split"]


def test_every_arm_seed_and_measure_is_there(smoke: Copy) -> None:
    with (smoke.folder / "results/smoke/tables/split/results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for measure in ("probe.accuracy", "pairs.accuracy", "test.yardstick.loss_nats", "validation.own.accuracy"):
        here = [row for row in rows if row["measure"] == measure and row["arm"] in _arms(smoke)]
        assert len({(row["arm"], row["seed"]) for row in here}) == ARMS * SEEDS
        assert all(row["status"] == "finished" and float(row["value"]) > 0 for row in here)


def test_the_first_run_leaves_what_was_stated(smoke: Copy) -> None:
    place = smoke.folder / "results/smoke/registration"
    content = json.loads((place / "split.json").read_text())
    assert content["first_run"] in {cell["digest"] for cell in cells(smoke)}
    study = json.loads((smoke.folder / "results/smoke/study.json").read_text())
    assert [row["arm"] for row in content["contrasts"]] == [
        contrast["arm"] for contrast in study["experiments"]["split"]["contrasts"]
    ]
    assert json.loads((place / "length.json").read_text())["first_run"] is None  # planned, and not begun


def test_realised_split_is_logged_and_near_the_one_asked_for(smoke: Copy) -> None:
    index = cells(smoke)
    for cell in index:
        folder = smoke.folder / "results/runs" / cell["digest"]
        realised = json.loads((folder / "run.json").read_text())["realised"]
        asked = json.loads((folder / "config.json").read_text())["training"]["masking"]
        selected, eligible = realised["selected"], realised["eligible"]
        assert abs(selected / eligible - asked["rate"]) < 0.002  # exact counts: ± half a token a row
        for kind, share in asked["split"].items():
            deviation = (share * (1 - share) / selected) ** 0.5
            assert abs(realised[kind] / selected - share) <= 5 * deviation


def test_the_paper_is_a_pdf_marked_as_smoke(smoke: Copy) -> None:
    paper = smoke.folder / "results/smoke/paper"
    assert (paper / "paper.pdf").read_bytes().startswith(b"%PDF-")
    assert "not evidence" in (paper / "paper.md").read_text()


def test_the_report_has_every_figure_by_experiment_and_needs_no_network(smoke: Copy) -> None:
    smoke.snakemake("--report", "results/smoke/report.zip")
    with zipfile.ZipFile(smoke.folder / "results/smoke/report.zip") as archive:
        names = {Path(name).name for name in archive.namelist()}
        page = archive.read("report/report.html").decode()
    shown = {
        "curves.svg",
        "contrasts.svg",
        "layers.svg",
        "realised.svg",
        "pareto.svg",
        "seconds.svg",
        "table.csv",
        "comparison.html",
        "split.html",
        "paper.pdf",
    }
    assert shown < names
    assert "Paired differences: mean (dot)" in page
    assert not re.search(r'(src|href)="https?:', page.split('<script id="workflow-desc">')[0])


def test_weights_and_biases_holds_every_run_and_the_results(smoke: Copy) -> None:
    told = json.loads((smoke.folder / "results/smoke/wandb/split.json").read_text())
    assert told == {"mode": "offline", "told": f"{ARMS * SEEDS + 1} W&B runs written offline"}
    index = cells(smoke)
    wanted = {cell["digest"] for cell in index} | {f"results-{identity.digest(['smoke', 'split'])}"}
    folders = list((smoke.folder / "results/wandb").glob("offline-run-*"))
    assert {re.sub(r"offline-run-\d+_\d+-", "", folder.name) for folder in folders} == wanted
    assert len(folders) == len(wanted)
    by_training = {path.stem for path in (smoke.folder / "results/logs/wandb").glob("*.log")}
    assert not by_training & wanted, "each is written once, with its measures"


def test_a_second_run_has_nothing_to_do(smoke: Copy) -> None:
    assert "Nothing to be done" in smoke.snakemake()
    assert "Nothing to be done" in smoke.snakemake("split")


def test_what_a_failed_step_took_away_is_made_again(smoke: Copy) -> None:
    """Snakemake deletes a failed job's outputs, and all that follows is still there."""
    for step in ("collect", "contrasts", "numbers"):
        experiment = "" if step == "numbers" else "split"
        kept: dict[Path, tuple[bytes, tuple[int, int]]] = {}
        for path in (smoke.folder / name for name in outputs.files(step, "smoke", experiment)):
            stat = path.stat()
            kept[path] = path.read_bytes(), (stat.st_atime_ns, stat.st_mtime_ns)
            path.unlink()
        try:
            assert jobs(smoke.snakemake("--dry-run"))[step] == 1
        finally:
            for path, (content, times) in kept.items():
                path.write_bytes(content)
                os.utime(path, ns=times)


def test_a_target_that_is_none_is_refused(smoke: Copy) -> None:
    for target, said in (
        ("splitt", "splitt: neither an experiment nor a path; did you mean `split`?"),
        (
            "results/runs/0123456789abcdef/trained",
            "0123456789abcdef: nothing that this study runs is called so",
        ),
    ):
        done = smoke.run("snakemake", "--dry-run", target, *SCALE, ok=False)
        assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_runs_are_measured_where_they_are_trained(smoke: Copy) -> None:
    """The job that is for a run's measures finds them, and has not loaded torch: that takes 200 MiB.

    Snakemake, whose outputs they are, finds no fault with it.
    """
    for cell in cells(smoke):
        (log,) = (smoke.folder / "results/logs/measure").glob(f"{cell['digest']}-*.log")
        (memory,) = re.findall(r"with (\d+) MiB of memory at most", log.read_text())
        assert int(memory) < 100
    said = "".join(path.read_text() for path in (smoke.folder / ".snakemake/log").glob("*.snakemake.log"))
    assert "Select jobs to execute" in said and "not present when the DAG was created" not in said


def test_every_job_left_a_log_of_its_own(smoke: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = smoke.folder / ".snakemake" / "metadata"
    records = [json.loads(path.read_text()) for path in notes.rglob("*") if path.is_file()]
    commands: dict[str, set[str]] = {}
    for record in records:
        (log,) = record["log"]
        commands.setdefault(log, set()).add(record["shellcmd"])
    assert all(len(those) == 1 for those in commands.values()), "two jobs share a log"
    assert len({command for those in commands.values() for command in those}) == len(commands)
    monkeypatch.chdir(smoke.folder)
    planned = failures.names(planner.load_study("smoke"))
    for log in commands:
        text = Path(log).read_text()
        assert logs.read(Path(log)).state == logs.WELL, text
        assert text.startswith(f"=== {logs.BEGUN}: ") and "\nscale: smoke\n" in text
        assert re.search(r"^versions: python .*, torch \d", text, re.MULTILINE)
        assert re.search(r"^device: .*\d+ cores of ", text, re.MULTILINE)
        assert str(Path(log).relative_to(logs.FOLDER).with_suffix("")) in planned
    assert "failed:" not in smoke.run("python", "-m", "mlm", "status", "--scale", "smoke").stdout


def test_trace_finds_every_file_as_recorded_and_names_one_that_is_not(smoke: Copy) -> None:
    whole = smoke.run("python", "-m", "mlm", "trace", "--scale", "smoke")
    assert re.search(r"^all \d{3} files are as recorded$", whole.stdout, re.MULTILINE)
    for stage in ("read by measures", "vocabulary", "shards", "corpus"):
        assert re.search(rf"^{stage}: \d+ files?, as recorded$", whole.stdout, re.MULTILINE)
    number = "split.contrast.100-0-0.probe.accuracy.difference"
    for pattern in (
        "data/corpora/*/test.jsonl",
        "data/shards/*/train.tokens",
        "data/probes/*/sentences.jsonl",
        "runs/*/kept/*.safetensors",
        "untrained/*/pairs-*.json",
        "smoke/tables/split/results.csv",
    ):
        path = min((smoke.folder / "results").glob(pattern))
        before = path.read_bytes()
        path.write_bytes(before[:-9] + bytes([before[-9] ^ 1]) + before[-8:])
        try:
            done = smoke.run("python", "-m", "mlm", "trace", "--scale", "smoke", ok=False)
            assert done.returncode == 1
            assert f"not as recorded: {path.relative_to(smoke.folder)} (changed since " in done.stdout
            if path.suffix == ".csv":
                refused = smoke.run("snakemake", "--cores", "all", *SCALE, ok=False)
                assert refused.returncode == 2 and "results.csv, line " in refused.stderr
        finally:
            path.write_bytes(before)
    assert smoke.run("python", "-m", "mlm", "trace", number, "--scale", "smoke").stdout.count("safetensors") > 3


@pytest.mark.parametrize(("scale", "seeds"), [("workstation", 12), ("gpu", 8)])
def test_the_larger_scales_are_planned_without_fetching_anything(smoke: Copy, scale: str, seeds: int) -> None:
    done = smoke.run("snakemake", "--cores", "all", "--dry-run", "split", "--config", f"scale={scale}")
    planned = jobs(done.stdout + done.stderr)
    assert planned["train"] == ARMS * seeds
    assert planned["measure"] >= ARMS * seeds  # more where two set a measure otherwise
    assert planned["measure_untrained"] >= seeds
    assert (planned["corpus"], planned["sentences"], planned["pairs"], planned["task"]) == (1, 1, 1, 2)


def planned_after(smoke: Copy, before: str, after: str) -> Counter[str]:
    """Rule -> jobs of a dry run with the experiment's file edited."""
    experiment = smoke.folder / "experiments/split.yaml"
    text = experiment.read_text()
    assert before in text
    try:
        experiment.write_text(text.replace(before, after))
        return jobs(smoke.snakemake("--dry-run"))
    finally:
        experiment.write_text(text)


def test_renaming_an_arm_trains_nothing(smoke: Copy) -> None:
    planned = planned_after(smoke, "81-9-10", "two-draws")
    assert planned["collect"] == 1
    assert not planned["train"]
    assert planned["measure"] == ARMS * SEEDS  # the matrix, whose columns are called after the arms


def test_editing_the_first_arm_leaves_the_untrained_encoders_alone(smoke: Copy) -> None:
    planned = planned_after(smoke, "{mask: .80, same: .10, random: .10}", "{mask: .82, same: .09, random: .09}")
    assert planned["train"] == SEEDS
    assert not planned["measure_untrained"]


def test_a_changed_question_reaches_the_paper_and_the_pages(smoke: Copy) -> None:
    planned = planned_after(smoke, "question: >-\n  Does", "question: >-\n  Really, does")
    assert not planned["train"]
    assert all(planned[rule] == 1 for rule in ANALYSIS)


def test_an_edited_arm_reruns_alone_with_what_follows(smoke: Copy, tmp_path: Path) -> None:
    copy = Copy(tmp_path / "edited")
    shutil.copytree(smoke.folder, copy.folder, symlinks=True)
    kept = results(copy)
    experiment = copy.folder / "experiments/split.yaml"
    experiment.write_text(
        experiment.read_text().replace(
            "{mask: .00, same: .20, random: .80}", "{mask: .00, same: .25, random: .75}"
        )
    )
    planned = jobs(copy.snakemake("--dry-run"))
    # Every run is evaluated under the edited arm's corruption: a column of the matrix.
    anew = Counter({"train": SEEDS, "measure": ARMS * SEEDS, **dict.fromkeys(("all", *ANALYSIS), 1)})
    assert planned == anew + Counter({"total": anew.total()})
    table = "results/smoke/tables/split/results.csv"
    copy.snakemake(table)
    after = results(copy)
    assert set(kept) < set(after)
    weights = [name for name in kept if name.endswith(".safetensors")]
    assert all(kept[name] == after[name] for name in weights)  # old runs stay until they are removed
    assert len([name for name in after if name.endswith(".safetensors")]) == len(weights) + SEEDS

    def others(content: bytes) -> list[str]:
        return [line for line in content.decode().splitlines() if not re.search(r"[,.]0-20-80[,.]", line)]

    assert kept[table] != after[table]
    assert others(kept[table]) == others(after[table])


def test_a_second_start_beside_a_live_one_says_so(smoke: Copy) -> None:
    import fcntl

    with (smoke.folder / "results/.live").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_SH)  # as a live Snakemake holds it
        done = smoke.run(*smoke.make("smoke"), ok=False)
    assert done.returncode != 0
    assert "another snakemake is at work" in done.stderr


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        (
            "experiments/split.yaml",
            "rate: .15",
            "rate: 15",
            ("experiments/split.yaml: base.masking.rate", "0.15"),
        ),
        ("experiments/split.yaml", "arm: 100-0-0,", "arm: 100-0-1,", ("contrasts.primary.arm", "100-0-0")),
        ("experiments/scales/smoke.yaml", "budget_tokens:", "budget_token:", ("smoke.yaml: run.budget_token",)),
        (
            "experiments/probes/brown.yaml",
            "shortest_words: 5",
            "shortest_words: 0",
            ("brown.yaml: shortest_words",),
        ),
    ],
)
def test_bad_input_is_refused_before_any_job(
    smoke: Copy, file: str, old: str, new: str, told: tuple[str, ...]
) -> None:
    path = smoke.folder / file
    before = path.read_text()
    assert old in before
    try:
        path.write_text(before.replace(old, new, 1))
        done = smoke.run("snakemake", "--cores", "all", *SCALE, ok=False)
    finally:
        path.write_text(before)
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    assert all(part in done.stderr for part in told), done.stderr


def test_an_unknown_scale_and_an_unknown_setting_are_refused(smoke: Copy) -> None:
    for setting, told in (("scale=huge", "laptop, smoke"), ("scael=smoke", "unknown key")):
        done = smoke.run("snakemake", "--cores", "all", "--config", setting, ok=False)
        assert done.returncode == 2
        assert told in done.stderr


def _arms(copy: Copy) -> list[str]:
    study = json.loads((copy.folder / "results/smoke/study.json").read_text())
    return list(study["experiments"]["split"]["arms"])
