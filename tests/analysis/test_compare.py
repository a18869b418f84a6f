"""Two studies side by side: the difference and its interval, what agrees, and what sets them apart."""

import contextlib
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_results import EFFECTS, EXPERIMENT, Synthetic

from analysis import (
    collect,
    compare,
    compare_text,
    contrasts,
    publish_page,
    published_runs,
    sides,
    study,
    table,
    tidy,
)
from analysis.compare import Interval
from mlm.__main__ import main
from mlm.errors import InputError
from mlm.files import json_text, read_json, write_json

Place = Callable[..., Synthetic]
THREE = {arm: EFFECTS[arm] for arm in ("80-10-10", "100-0-0", "81-9-10")}


@pytest.fixture
def elsewhere(tmp_path: Path) -> Place:
    """elsewhere(name, **options) writes a study with tables into a folder of this name, without figures."""

    def build(name: str, **options: object) -> Synthetic:
        made = Synthetic(tmp_path / name, **{"effects": THREE, **options}).write()
        with contextlib.chdir(made.root):
            planned = study.load(made.scale)
            collect.collect(planned, EXPERIMENT)
            contrasts.write(planned, EXPERIMENT)
            table.write(planned, EXPERIMENT)
        return made

    return build


def published(made: Synthetic, to: Path, *, with_runs: bool = True) -> Path:
    """What `publish` leaves of a study that the comparison reads."""
    place = to / made.scale / EXPERIMENT
    place.mkdir(parents=True)
    for name in ("contrasts.csv", "table.csv"):
        (place / name).write_bytes(made.table(name).read_bytes())
    with contextlib.chdir(made.root):
        planned = study.load(made.scale)
        runs = published_runs.of(planned, EXPERIMENT)
    if with_runs:
        (place / published_runs.FILE).write_text(json_text(runs.model_dump(mode="json")))
    rows = [(one.arm, one.seed, one.run, "finished", 1, 1, 1.0, 1.0, "abc") for one in runs.runs]
    tidy.write_csv(place / "runs.csv", rows, publish_page.RUN_COLUMNS)
    words = dict.fromkeys(("title", "question", "claim", "reference", "reckoned", "restricted"), "")
    lists = {name: [] for name in ("marks", "findings", "primary", "tallies", "figures", "files")}
    facts = {"experiment": EXPERIMENT, "code": "c0de", "machine": "one CPU thread, bfloat16", "unit": "core"}
    write_json(place / "facts.json", {**words, **lists, **facts})
    return to / made.scale


def test_a_study_and_what_was_published_of_it_are_the_same(elsewhere: Place, tmp_path: Path) -> None:
    made = elsewhere("here")
    place = published(made, tmp_path / "docs")
    a, b = sides.load(str(made.results / made.scale)), sides.load(str(place))
    found = [*compare.contrasts(a, b, [EXPERIMENT]), *compare.means(a, b, [EXPERIMENT])]
    assert {row.apart.value for row in found} == {0.0} and all(row.agree in (True, None) for row in found)
    assert sum(bool(row.family) for row in found) == 2 and all(
        row.verdicts[0] == row.verdicts[1] for row in found
    )
    assert compare.alone(a, b, [EXPERIMENT]) == []
    runs = a.experiments[EXPERIMENT].runs
    assert runs == b.experiments[EXPERIMENT].runs and runs is not None and len(runs.runs) == 24
    told = {one.key for one in compare.differences(a, b, [EXPERIMENT])}
    assert told == {"training code", "commits", "machine"}  # which `published` makes up


def test_what_differs_is_told_with_its_size(elsewhere: Place) -> None:
    less = {"optimizer": {"learning_rate": 1e-3}}
    one = elsewhere("one")
    other = elsewhere(
        "other",
        effects={**THREE, "100-0-0": -0.2, "0-0-100": -0.3},
        changes=dict.fromkeys(THREE, less),
        seeds=7,
    )
    a, b = (sides.load(str(made.results / made.scale)) for made in (one, other))
    rows = {row.what: row for row in compare.contrasts(a, b, [EXPERIMENT]) if row.family != "equivalence"}
    row = rows["100/0/0 − 80/10/10"]
    for made, side, n in ((one, row.a, 8), (other, row.b, 7)):
        with contextlib.chdir(made.root):
            result = contrasts.load(made.scale, EXPERIMENT)[0]
        assert (result.difference, result.low, result.high, result.n) == (*side, n)
    assert row.agree is False and row.apart.value == pytest.approx(row.b.value - row.a.value)
    assert row.n == (8, 7)
    lines = compare.alone(a, b, [EXPERIMENT])
    assert any("arms of" in line and line.endswith("alone: 0/0/100") for line in lines)
    changed = [one for one in compare.differences(a, b, [EXPERIMENT]) if one.key == "optimizer.learning_rate"]
    assert [(one.where, one.b) for one in changed] == [("all runs", "0.001")]


def test_what_is_of_some_runs_alone_or_claimed_otherwise_is_not_judged(
    elsewhere: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = elsewhere("one", unreached={("100-0-0", 1): "never"}), elsewhere("other")
    a, b = (sides.load(str(made.results / made.scale)) for made in (one, other))
    cost = {row.what: row for row in compare.means(a, b, [EXPERIMENT]) if row.measure == "reach.5.tokens"}
    told = cost["100/0/0 (reached by 7 of 8 and 8 of 8)"]
    assert told.agree is None and told.a.bounded and told.b.bounded and not math.isfinite(told.apart.value)
    assert cost["80/10/10"].agree is True

    mine, theirs = (side.experiments[EXPERIMENT].contrasts for side in (a, b))
    mine.loc[mine["family"] == "primary", "expect"] = "higher"
    for side in (mine, theirs):
        side.loc[side["family"] == "equivalence", "up_to_tokens"] = 983_040.0
    rows = {row.family: row for row in compare.contrasts(a, b, [EXPERIMENT])}
    assert (rows["primary"].same_claim, rows["equivalence"].same_claim) == (False, True)
    assert rows["equivalence"].what == "81/9/10 − 80/10/10, within the first 983,040 tokens"
    claims = [one for one in compare.differences(a, b, [EXPERIMENT]) if one.key in ("expect", "margin")]
    assert [one[1:] for one in claims] == [
        ("100/0/0 − 80/10/10 in probe.accuracy", "expect", "higher", "lower")
    ]
    theirs["margin"] *= 2
    assert not any(row.same_claim for row in compare.contrasts(a, b, [EXPERIMENT]))

    monkeypatch.setattr(sides, "load", lambda name: {"a": a, "b": b}[name])
    compare_text.show("a", "b", (), None, None)
    assert "0 of 0 have the same verdict. 2 more were stated with another" in capsys.readouterr().out


def test_the_interval_of_a_difference_by_hand() -> None:
    # Below: the second's lower .6 and the first's upper .4; above: .1 and .1.
    found = compare.apart(Interval(1.0, 0.9, 1.4), Interval(1.5, 0.9, 1.6))
    assert found == pytest.approx((0.5, 0.5 - 0.52**0.5, 0.5 + 0.02**0.5))


def test_the_interval_of_a_difference_of_normal_means_covers(tmp_path: Path) -> None:
    draws, covered = np.random.default_rng(7), 0
    for _ in range(2000):
        sides_ = [draws.normal(m, s, 200) for m, s in ((1.0, 1.0), (1.5, 3.0))]
        half = [1.96 * x.std(ddof=1) / 200**0.5 for x in sides_]
        a, b = (Interval(x.mean(), x.mean() - h, x.mean() + h) for x, h in zip(sides_, half, strict=True))
        found = compare.apart(a, b)
        covered += found.low <= 0.5 <= found.high
    assert 0.935 < covered / 2000 < 0.965
    assert not compare.apart(Interval(1.0, -np.inf, np.inf), Interval(1.0, 0.9, 1.1)).bounded


def test_the_command_prints_both_and_writes_all(
    elsewhere: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = elsewhere("here", missing=(("100-0-0", 7),))
    place = published(elsewhere("there"), tmp_path / "docs", with_runs=False)
    monkeypatch.chdir(made.root)
    with pytest.raises(SystemExit) as ended:
        main(["compare", made.scale, str(place), "--json", "out/both.json", "--csv", "out/both.csv"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert f"A is laptop, B is {place}" in told and "partial / supported" in told
    assert "part-of-speech accuracy" in told and "not published" in told
    content, rows = read_json(Path("out/both.json"), ""), pd.read_csv("out/both.csv")
    assert len(content["rows"]) == len(rows) > 100
    assert {one["key"] for one in content["differences"]} >= {"state", "configuration"}
    json.dumps(content, allow_nan=False)


def test_intervals_that_so_few_pairs_do_not_bound_are_null_in_json(
    elsewhere: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = elsewhere("here", seeds=2)
    monkeypatch.chdir(made.root)
    with pytest.raises(SystemExit) as ended:
        main(["compare", made.scale, made.scale, "--json", "both.json"])
    assert ended.value.code == 0
    rows = read_json(Path("both.json"), "")["rows"]
    unbounded = [row for row in rows if row["family"] == "primary"]
    assert unbounded and all(None in row.values() for row in unbounded)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["laptop", "galaxy"], "galaxy: no study of this name; give a scale that was run here (laptop)"),
        (["laptop", "experiments/scales"], "experiments/scales: no study: it has neither a study.json"),
        (["laptop", "laptop", "--experiment", "splitt"], "no experiment with tables is called 'splitt'"),
    ],
)
def test_bad_input_ends_with_status_2(
    elsewhere: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: list[str], problem: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(elsewhere("here", seeds=1).root)
    with pytest.raises(SystemExit) as ended:
        main(["compare", *words])
    assert ended.value.code == 2
    assert problem in capsys.readouterr().err


def test_a_study_without_tables_says_how_they_are_made(tmp_path: Path) -> None:
    made = Synthetic(tmp_path, seeds=1, effects=THREE).write()
    with pytest.raises(InputError, match=r"no experiment has tables yet.*analysis partial laptop"):
        sides.load(str(made.results / made.scale))
