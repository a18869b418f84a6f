"""docs/results: what is published is what was found, experiments join up, and nothing unfinished passes."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import synthetic_experiments as more
from synthetic_results import EXPERIMENT, WHY, Synthetic, accept, write_json
from test_analysis_commands import call

from analysis import (
    codes,
    collect,
    contrasts,
    labels,
    numbers,
    outputs,
    provenance,
    publish,
    publish_page,
    published_runs,
    report,
    sides,
    study,
    table,
    tidy,
    tune,
)
from mlm.errors import InputError
from mlm.files import read_json, write_atomically

Make = Callable[..., Synthetic]
TWO = {"80-10-10": 0.0, "100-0-0": -0.03}
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>\n'


def ready(made: Synthetic, *names: str) -> study.Study:
    """Everything that is published of some experiments, with figures that cost nothing."""
    planned = study.load(made.scale)
    for name in names:
        collect.collect(planned, name)
        contrasts.write(planned, name)
        table.write(planned, name)
        draw(planned, name)
    return planned


def draw(planned: study.Study, name: str, content: str = SVG) -> None:
    """What `figures` leaves, but for the figures."""
    own = [one.stem for one in planned.experiment(name).figures]
    paths = outputs.files("figures", planned.scale, name, own)
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    told, read = planned.stated(name), outputs.results(planned.scale, name)
    provenance.write("figures", planned.scale, name, study=told, read=read, wrote=paths)


def bits(place: Path) -> dict[str, bytes]:
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in sorted(place.rglob("*.*"))}


def findings(page: str) -> dict[tuple[str, str, str, str], list[str]]:
    """(experiment, contrast, measure, family) -> the cells that follow in the table of findings."""
    rows = [line[2:-2].split(" | ") for line in page.splitlines() if line.startswith("| [")]
    split = [
        [row[0][1:-1], *row[1].split(", ", 1), *row[2].split(": "), *row[3:]] for row in rows if len(row) > 7
    ]
    return {(row[0], row[1], row[2], row[3]): row[4:] for row in split}


def test_an_accepted_change_of_the_code_is_on_the_page(make: Make) -> None:
    made = make(seeds=2, effects=TWO)
    accept(made, "100-0-0")
    publish.write(ready(made, EXPERIMENT), [])
    page = Path("docs/results/laptop/README.md").read_text()
    told = WHY.replace("[", "\\[").replace("]", "\\]")
    assert f"**Runs of [split] are kept though the code gives other bits by now:** {told}\n" in page


def test_a_remark_stands_on_the_page_until_the_experiment_is_published_anew(make: Make) -> None:
    made = ready(make(seeds=2, effects=TWO), EXPERIMENT)
    publish.write(made, [])
    place = Path("docs/results/laptop")
    right = publish_page.write(place).read_text()
    (place / EXPERIMENT / "remark.md").write_text("The probe read\nother features.\n")
    wrong = publish_page.write(place).read_text()
    said = "**Remark:** "
    above, _, below = wrong.partition(f"## {EXPERIMENT}: ")
    assert f"which stands with the experiment below: `{EXPERIMENT}`." in above and said not in above
    assert f"{said}The probe read other features.\n" in below
    publish.write(made, [])
    assert (place / "README.md").read_text() == right
    assert not (place / EXPERIMENT / "remark.md").exists()


def test_the_page_says_what_contrasts_json_says(make: Make) -> None:
    made = make()
    more.rate(made)
    planned = ready(made, EXPERIMENT, "rate")
    publish.write(planned, [])
    page = Path("docs/results/laptop/README.md").read_text()
    told, count = findings(page), 0
    for name in (EXPERIMENT, "rate"):
        for row in read_json(made.results / f"laptop/tables/{name}/contrasts.json", "")["contrasts"]:
            ends = ("difference", "low", "high", "two_level_low", "two_level_high")
            digits = labels.telling(labels.digits(row["measure"]), *(row[end] for end in ends))
            count += 1
            contrast = f"{labels.arm(row['arm'])} − {labels.arm(row['against'])}"
            stated, difference, interval, both, n, p, verdict = told[
                name, contrast, labels.measure(row["measure"]), row["family"]
            ]
            two = [labels.number(row[f"two_level_{end}"], digits) for end in ("low", "high")]
            assert both.replace("\u00a0", " ") == (" to ".join(two) if row["examples"] else "—")
            assert difference == labels.number(row["difference"], digits, signed=True)
            assert interval.replace("\u00a0", " ") == " to ".join(
                labels.number(row[end], digits) for end in ("low", "high")
            )
            assert (n, verdict) == (str(row["n"]), row["verdict"])
            assert p == labels.p_value(row["p_holm"]).removeprefix("= ")
            assert stated == (row["expect"] or f"within ±{row['margin']}")
    assert count == len(told) == 8
    assert "81/9/10 − 80/10/10" in page and "*supported*: 100/0/0 is lower, as stated." in page
    assert "smoke" not in page and "commits.**" not in page


def test_the_cost_is_that_of_the_runs_each_counted_once(make: Make) -> None:
    made = make(seeds=2, effects=TWO)
    path = made.results / "laptop" / "study.json"
    content = read_json(path, "")
    content["experiments"]["again"] = content["experiments"][EXPERIMENT] | {"contrasts": []}
    content["index"] += [
        cell | {"experiment": "again"} for cell in content["index"] if cell["arm"] == "80-10-10"
    ]
    content["experiments"]["again"] |= {"arms": ["80-10-10"]}
    write_json(path, content)
    publish.write(ready(made, EXPERIMENT, "again"), [])
    records = [json.loads(file.read_text()) for file in made.results.glob("runs/*/run.json")]
    minutes = labels.number(sum(run["training_seconds"] for run in records) / 60, 1)
    tokens = labels.number(sum(run["tokens"] for run in records), 0)
    page = Path("docs/results/laptop/README.md").read_text()
    assert f"| all, each run once | 4 |  | {tokens} | {minutes} | 30.0 |" in page
    assert "**Cost.** 4 runs, 2 of its own and 2 that are of `again` too" in page
    runs = pd.read_csv(f"docs/results/laptop/{EXPERIMENT}/runs.csv")
    assert {*runs["run"]} == {run["digest"] for run in records}
    assert {*runs["commit"]} == {run["git"]["commit"] for run in records}


def test_one_after_the_other_is_both_at_once_and_twice_the_same_bytes(make: Make) -> None:
    made = make(seeds=2, effects=TWO)
    more.rate(made, seeds=2)
    planned = ready(made, EXPERIMENT, "rate")
    publish.write(planned, ["rate"])
    assert {key[0] for key in findings(Path("docs/results/laptop/README.md").read_text())} == {"rate"}
    publish.write(planned, [EXPERIMENT])
    publish.write(planned, [], Path("elsewhere/results"))
    one = bits(Path("docs/results"))
    assert one == bits(Path("elsewhere/results"))
    publish.write(planned, ["rate", EXPERIMENT])
    assert bits(Path("docs/results")) == one


def test_links_of_the_page_lead_to_files(make: Make) -> None:
    made = make(seeds=2, effects=TWO)
    more.corruptions(made, seeds=2)
    (made.root / "experiments" / "corruptions.yaml").touch()
    written, _ = publish.write(ready(made, EXPERIMENT, "corruptions"), [])
    page = Path("docs/results/laptop/README.md")
    text = page.read_text()
    targets = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r"^\[[^]]+\]: (.+)$", text, flags=re.MULTILINE)
    assert len(targets) > 12 and all((page.parent / target).is_file() for target in targets)
    linked = {(page.parent / target).resolve() for target in targets}
    assert {path.resolve() for path in written if path.name not in ("facts.json", "README.md")} <= linked
    assert all(f"![corruptions: {name}]" in text for name in ("contrasts", "matrix", "over", "operations"))


def test_trials_of_learning_rates_lead_back_to_their_runs(make: Make) -> None:
    made = make(seeds=2, effects=TWO)
    (made.root / "experiments" / f"{EXPERIMENT}.yaml").touch()
    losses = {"80-10-10": [4.4, 4.0, 4.2], "100-0-0": [4.4, 4.3, 4.1]}
    name = more.trials(made, EXPERIMENT, losses)
    planned = ready(made, EXPERIMENT)
    collect.collect(planned, name)
    assert publish.write(planned, [])[1] == []  # trials that nobody has run are not missed
    gone = (
        f"{name}: missing are results/laptop/tables/{name}/rates.csv, results/laptop/figures/{name}/rates.svg"
    )
    with pytest.raises(InputError, match=re.escape(gone)):
        publish.write(planned, [name])
    tune.write(planned, name)
    publish.write(planned, [])
    place = Path(f"docs/results/laptop/{name}")
    told = pd.read_csv(place / "rates.csv")
    reference = published_runs.load(place)
    assert reference is not None and {one.run for one in reference.runs} == {
        *pd.read_csv(place / "runs.csv")["run"]
    }
    for row in told.to_dict("records"):
        mine = [one for one in reference.runs if one.arm == f"{row['arm']}.lr-{row['learning_rate']:g}"]
        assert len(mine) == row["n"] == 2
        mean = sum(one.values["test.own.loss_nats"] for one in mine) / 2
        assert mean == pytest.approx(row["mean"])
    page = Path("docs/results/laptop/README.md").read_text()
    assert (
        "Best: 80/10/10: 0.002 (4.005). 100/0/0: 0.004 (4.105); the edge of what was tried: try further.\n"
        in page
    )
    assert f"![{name}: rates]({name}/rates.svg)" in page and f"{EXPERIMENT}.yaml" in page
    assert {key[0] for key in findings(page)} == {EXPERIMENT} and page.count("The claim: ") == 1
    # What compares studies has nothing to compare in them, and what is altered is refused.
    assert {*sides.load("docs/results/laptop").experiments} == {EXPERIMENT}
    path = made.results / f"laptop/tables/{name}/rates.csv"
    path.write_text(path.read_text().replace("0.002", "0.003", 1))
    with pytest.raises(InputError, match=r"rates\.csv, line \d: truncated or altered since `tune` wrote it"):
        publish.write(planned, [name])


def test_slopes_come_with_their_intervals_as_numbers_json_has_them(make: Make) -> None:
    made = make(seeds=2, effects=TWO)
    more.credit(made, seeds=3)
    planned = ready(made, EXPERIMENT, "credit")
    written, _ = publish.write(planned, [])
    assert [path.parent.name for path in written if path.name == "slopes.csv"] == ["credit"]
    told = pd.read_csv("docs/results/laptop/credit/slopes.csv")
    numbers.write(planned, [EXPERIMENT, "credit"])
    known = read_json(outputs.numbers_file("laptop"), "")
    assert len(told) == 3 * len(more.LEARNING_RATES) and {*told["figure"]} == {"leaving"}
    for row in told.to_dict("records"):
        key = row["line"].lower().replace(" − ", ".minus.")
        entry = known[f"credit.leaving.{row['learning_rate']:g}.{key}.slope"]
        assert [row["slope"], row["low"], row["high"], row["n"]] == [
            entry[k] for k in ("value", "low", "high", "n")
        ]


def test_points_over_training_are_those_of_the_curves(make: Make) -> None:
    made = make(seeds=2, effects=TWO)
    more.corruptions(made, seeds=2)
    planned = ready(made, "corruptions")
    publish.write(planned, ["corruptions"])
    told = pd.read_csv("docs/results/laptop/corruptions/over.csv")
    collected, shown = tidy.load("laptop", "corruptions"), planned.experiment("corruptions").figures
    assert {*told["figure"]} == {one.stem for one in shown if one.kind in ("over", "radius")}
    arm, measure = told["arm"].iloc[0], told["measure"].iloc[0]
    c = collected.curves[(collected.curves["arm"] == arm) & (collected.curves["measure"] == measure)]
    means = c.groupby("tokens")["value"].mean()
    mine = told[(told["arm"] == arm) & (told["figure"] == told["figure"].iloc[0])]
    assert mine["tokens"].is_monotonic_increasing and {*means.index} <= {*mine["tokens"]}
    for row in mine[mine["tokens"].isin(means.index)].itertuples():
        assert row.mean == pytest.approx(means[row.tokens]) and row.n == 2


def test_a_large_figure_is_taken_as_png(make: Make) -> None:
    made = make(seeds=2, effects=TWO)
    planned = ready(made, EXPERIMENT)
    publish.write(planned, [EXPERIMENT])
    draw(planned, EXPERIMENT, SVG + " " * publish.MOST_BYTES)
    publish.write(planned, [EXPERIMENT])
    there = {path.name for path in Path(f"docs/results/laptop/{EXPERIMENT}").iterdir()}
    assert "contrasts.png" in there and "contrasts.svg" not in there
    assert "A PNG, as the SVG has 200 kB" in Path("docs/results/laptop/README.md").read_text()


def test_the_incomplete_is_refused_by_name_and_left_out_unnamed(make: Make) -> None:
    made = make(seeds=2, effects=TWO, missing=(("100-0-0", 1),))
    more.rate(made, seeds=2)
    planned = ready(made, EXPERIMENT)
    lost = f"{EXPERIMENT}: not finished or not measured are 100-0-0/seed-1; "
    gone = "rate: missing are results/laptop/tables/rate/results.csv"
    done = call(made.root, "publish", "laptop", "rate", EXPERIMENT)
    assert done.returncode == 2 and lost in done.stderr and gone in done.stderr
    assert "; `snakemake --cores all --config scale=laptop rate` makes them" in done.stderr
    assert "Traceback" not in done.stderr and not Path("docs").exists()
    ready(made, "rate")
    written, left_out = publish.write(planned, [])
    assert [problem.startswith(lost) for problem in left_out] == [True]
    assert {path.parent.name for path in written} == {"rate", "laptop"} and all(map(Path.is_file, written))
    assert {key[0] for key in findings(Path("docs/results/laptop/README.md").read_text())} == {"rate"}


def test_tables_of_other_runs_or_results_are_refused(make: Make) -> None:
    made = make(effects=TWO)
    planned = ready(made, EXPERIMENT)
    path = made.results / f"laptop/tables/{EXPERIMENT}/contrasts.json"
    content = read_json(path, "")
    content["contrasts"][0]["difference"] += 0.001
    write_json(path, content)
    with pytest.raises(InputError, match=r'contrasts\.json, line \d+: truncated or altered .*"difference": '):
        publish.write(planned, [EXPERIMENT])
    contrasts.write(planned, EXPERIMENT)
    for file in ("tables/split/table.csv", "figures/split/contrasts.svg"):
        path = made.results / "laptop" / file
        before = path.read_text()
        path.write_text(before.replace("9", "8", 1))
        with pytest.raises(InputError, match=rf"{path.name}.*: truncated or altered since"):
            publish.write(planned, [EXPERIMENT])
        path.write_text(before)
    index = tuple(cell for cell in planned.index if cell.seed)
    assert [*refused(planned.model_copy(update={"index": index}))] == [
        f"{EXPERIMENT}: results/laptop/study.json: says something else of {EXPERIMENT} than `{step}` was told; "
        f"run `python -m analysis {step} laptop {EXPERIMENT}` again"
        for step in publish.STEPS
    ]


def refused(planned: study.Study) -> tuple[str, ...]:
    with pytest.raises(InputError) as found:
        publish.write(planned, [EXPERIMENT])
    return found.value.problems


def test_figures_that_were_drawn_for_another_file_get_no_caption_of_this_one(make: Make) -> None:
    """An experiment's `figures:` is edited, and another experiment is made: its own figures are not."""
    made = make(seeds=2, effects=TWO)
    more.rate(made, seeds=2)
    ready(made, EXPERIMENT, "rate")
    path = made.results / "laptop" / "study.json"
    content = read_json(path, "")
    content["experiments"][EXPERIMENT]["primary_measure"] = tidy.YARDSTICK
    write_json(path, content)
    planned = study.load("laptop")
    written, left_out = publish.write(planned, [])
    assert {path.parent.name for path in written} == {"rate", "laptop"}
    assert len(left_out) == len(publish.STEPS) and "than `figures` was told; run" in left_out[-1]
    with pytest.raises(InputError, match="than `figures` was told; run `python -m analysis figures laptop"):
        report.write(planned, EXPERIMENT)


def test_results_that_were_made_anew_are_not_mixed_with_what_was_made_from_the_old(make: Make) -> None:
    made = make(seeds=2, effects=TWO)
    planned = ready(made, EXPERIMENT)
    numbers.write(planned, [EXPERIMENT])
    path = next(made.folder("100-0-0", 0).glob("probe-*.json"))
    content = read_json(path, "")
    content["values"]["probe.layer_1.accuracy"] += 0.001
    write_json(path, content)
    assert refused(planned) == (
        f"{EXPERIMENT}: {path.relative_to(made.root)}: not as `collect` read it; "
        f"run `python -m analysis collect laptop {EXPERIMENT}` again",
    )
    collect.collect(planned, EXPERIMENT)
    steps = [problem.split("`")[1] for problem in refused(planned)]
    assert steps == ["contrasts", "table", "figures"]
    with pytest.raises(InputError, match="not as `contrasts` read them; run `python -m analysis contrasts lap"):
        numbers.write(planned, [EXPERIMENT])
    contrasts.write(planned, EXPERIMENT)
    with pytest.raises(InputError, match="not as `numbers` read them; run `python -m analysis numbers laptop`"):
        numbers.load("laptop")
    table.write(planned, EXPERIMENT)
    provenance.forget("figures", "laptop", EXPERIMENT)
    assert "provenance/split/figures.json: missing" in refused(planned)[0]
    draw(planned, EXPERIMENT)
    publish.write(planned, [EXPERIMENT])


def test_smoke_is_refused_without_a_folder_and_marked_with_one(make: Make) -> None:
    made = make(seeds=2, effects=TWO, evidence=False, scale="smoke")
    planned = ready(made, EXPERIMENT)
    with pytest.raises(InputError, match=r"results/smoke/study.json: evidence: is false.*--to FOLDER"):
        publish.write(planned, [EXPERIMENT])
    publish.write(planned, [EXPERIMENT], Path("look"))
    assert "**smoke, not evidence**" in Path("look/smoke/README.md").read_text()


def test_mixed_commits_and_changes_are_told(make: Make) -> None:
    made = make(seeds=2, effects=TWO)
    for seed, git in enumerate(({"commit": "ab" * 20, "dirty": True}, {"commit": None, "dirty": None})):
        file = made.folder("100-0-0", seed) / "run.json"
        write_json(file, json.loads(file.read_text()) | {"git": git})
    publish.write(ready(made, EXPERIMENT), [EXPERIMENT])
    page = Path("docs/results/laptop/README.md").read_text()
    assert "**The runs were made from 3 commits.**" in page and "(2), " in page
    assert "`ababababab` with changes (1)" in page and "not recorded (1)" in page
    assert "**Some runs were made from a work tree with changes that are in no commit.**" in page


def test_the_page_says_whose_code_is_mixed_and_whose_contrasts_came_later_each_once(make: Make) -> None:
    made = make(seeds=2, effects=TWO)
    more.rate(made, seeds=2)
    more.corruptions(made, seeds=2)
    publish.write(ready(made, EXPERIMENT, "rate", "corruptions"), [])
    place = Path("docs/results/laptop")
    plain = "Post hoc: added or changed when there were results already."
    same_bits = "experiment were trained by code of the same bits"
    runs = place / "rate" / "runs.csv"
    runs.write_text(runs.read_text().replace(hashlib.sha1(b"synthetic").hexdigest(), "ab" * 20))
    for name, longer in ((EXPERIMENT, ""), ("rate", " Stated at first: a."), ("corruptions", "")):
        path = place / name / "facts.json"
        write_json(path, read_json(path, "") | {"stated": plain + longer})
    page = publish_page.write(place).read_text()
    assert page.count(plain) == 2 and same_bits in page
    assert f"\n`corruptions` and `{EXPERIMENT}`: {plain}\n" in page
    assert f"\n`rate`: {plain} Stated at first: a.\n" in page
    path = place / "rate" / "facts.json"
    write_json(path, read_json(path, "") | {"marks": [*codes.mark({"a": ["1"], "b": ["2"]})]})
    page = publish_page.write(place).read_text()
    assert "**`rate`: mixed code: 1 run of a, 1 run of b**" in page and "commits.**" in page
    assert same_bits not in page


def test_a_damaged_folder_is_named_before_anything_is_written(make: Make) -> None:
    made = make(seeds=2, effects=TWO)
    more.rate(made, seeds=2)
    planned = ready(made, EXPERIMENT, "rate")
    publish.write(planned, [EXPERIMENT])
    facts = Path(f"docs/results/laptop/{EXPERIMENT}/facts.json")
    facts.write_text("{}")
    before = bits(Path("docs/results"))
    for named in (EXPERIMENT, "rate"):
        with pytest.raises(
            InputError, match=rf"{facts}: experiment: Field required; delete {facts.parent} and"
        ):
            publish.write(planned, [named])
    assert bits(Path("docs/results")) == before


def test_a_publication_that_is_killed_leaves_no_page_of_two_studies(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(seeds=2, effects=TWO)
    planned = ready(made, EXPERIMENT)
    publish.write(planned, [EXPERIMENT])

    def killed(path: Path, content: bytes) -> None:
        if path.name == publish_page.RUNS:
            raise KeyboardInterrupt
        write_atomically(path, content)

    monkeypatch.setattr(publish, "write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        publish.write(planned, [EXPERIMENT])
    assert not publish_page.read(Path("docs/results/laptop"))


def test_the_longest_run_has_all_its_training_also_where_it_was_interrupted() -> None:
    """A run that two experiments share counts once."""
    each = {"run": ["a", "b", "a"], "tokens": [7, 5, 7], "training_seconds": [90.0, 20.0, 90.0]}
    cost = publish_page.Cost.of(pd.DataFrame({**each, "wall_seconds": [30.0, 60.0, 30.0]}))
    assert cost == publish_page.Cost(runs=2, tokens=12, minutes=110 / 60, longest_seconds=90.0)
