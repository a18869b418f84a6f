"""The comparison page: its numbers are the tables', it is the same bytes twice, and it loads nothing."""

import base64
import hashlib
import json
import re
import statistics
from collections import defaultdict

import pytest
from pages import HOSTILE, LOSS, SMALL, Make, Reader, build, hostile, t_interval, table
from synthetic_results import BUDGET, EFFECTS, EXPERIMENT

from analysis import comparison, labels, setup, study
from mlm import flops
from mlm.errors import InputError


def test_curves_on_the_page_are_those_of_the_tables(analysed: Make) -> None:
    made = analysed(seeds=4, effects=SMALL, diverged=(("100-0-0", 2),))
    shown = Reader(build(made).read_text(encoding="utf-8")).shown["experiments"][0]
    expected: dict[tuple[str, str, int], dict[int, float]] = defaultdict(dict)
    for row in table(made, "curves.csv"):
        if (row["arm"], row["seed"]) != ("100-0-0", "2"):
            moment = (row["arm"], row["measure"], int(row["tokens"]))
            expected[moment][int(row["seed"])] = float(row["value"])
    found = {}
    for arm in shown["arms"]:
        for measure, curve in arm["curves"].items():
            for i, tokens in enumerate(curve["tokens"]):
                found[arm["name"], measure, tokens] = {int(s): v[i] for s, v in curve["seeds"].items()}
                values = list(expected[arm["name"], measure, tokens].values())
                bounds = [curve[end][i] for end in ("mean", "low", "high")]
                assert bounds == pytest.approx(t_interval(values), abs=1e-12)
                assert curve["n"][i] == len(values) == (3 if arm["name"] == "100-0-0" else 4)
    assert found == expected


def test_runs_flops_and_seconds_are_those_of_the_tables(analysed: Make) -> None:
    made = analysed(seeds=3, effects=SMALL, diverged=(("100-0-0", 2),))
    shown = Reader(build(made).read_text(encoding="utf-8")).shown["experiments"][0]
    results = table(made, "results.csv")
    spent = {(r["arm"], r["seed"]): float(r["value"]) for r in table(made, "seconds.csv")
             if r["measure"] == "training_seconds"}  # fmt: skip
    for arm in shown["arms"]:
        tokens, operations = (
            {r["seed"]: float(r["value"]) for r in results
             if (r["arm"], r["measure"]) == (arm["name"], f"training.{what}")}
            for what in ("tokens", "flops")
        )  # fmt: skip
        runs = {str(run["seed"]): run for run in arm["runs"]}
        assert {s: run["digest"] for s, run in runs.items()} == {
            str(s): made.digests[arm["name"], s] for s in range(3)
        }
        for seed, run in runs.items():
            assert run["seconds_per_token"] == pytest.approx(spent[arm["name"], seed] / tokens[seed])
        drawn = [run["seconds_per_token"] for run in runs.values() if run["status"] == "finished"]
        assert arm["seconds_per_token"] == pytest.approx(statistics.fmean(drawn))
        for curve in arm["curves"].values():
            at = [operations["0"] * done / tokens["0"] for done in curve["tokens"]]
            assert curve["flops"] == pytest.approx(at, abs=1)
    assert [run["status"] for run in shown["arms"][1]["runs"]] == ["finished", "finished", "diverged"]


def test_operations_are_not_in_proportion_to_tokens_where_lengths_grow(analysed: Make) -> None:
    """The first half of the tokens is read in short sequences, which cost less."""
    growing = {"lengths": {"shape": "staged", "values": [16, 64]}}
    made = analysed(seeds=2, effects=SMALL, changes={"100-0-0": growing})
    run = setup.planned(study.load(made.scale), EXPERIMENT)["100-0-0"]
    short, long = (flops.of_token(run.encoder, run.vocabulary.size, length) for length in (16, 64))
    for arm in Reader(build(made).read_text(encoding="utf-8")).shown["experiments"][0]["arms"]:
        curve = arm["curves"][LOSS]
        half, end = (curve["flops"][curve["tokens"].index(at)] for at in (BUDGET // 2, BUDGET))
        share = short / (short + long) if arm["name"] == "100-0-0" else 0.5
        assert half / end == pytest.approx(share)


def test_ends_differences_and_verdicts_are_those_of_the_tables(analysed: Make) -> None:
    made = analysed(seeds=8, effects=SMALL)
    shown = Reader(build(made).read_text(encoding="utf-8")).shown["experiments"][0]
    last: dict[str, dict[int, float]] = defaultdict(dict)
    for row in table(made, "curves.csv"):
        if row["measure"] == LOSS:
            last[row["arm"]][int(row["seed"])] = float(row["value"])
    for arm, found in shown["ends"][LOSS].items():
        assert [found[k] for k in ("mean", "low", "high")] == pytest.approx(
            t_interval(list(last[arm].values()))
        )
        if arm != "80-10-10":
            pairs = [last[arm][seed] - last["80-10-10"][seed] for seed in range(8)]
            assert found["difference"]["mean"] == pytest.approx(statistics.fmean(pairs))
            assert found["difference"]["low"] <= found["difference"]["mean"] <= found["difference"]["high"]
            assert not found["verdicts"]
    stated = json.loads(made.table("contrasts.json").read_text())["contrasts"]
    assert len(stated) == 2
    for contrast in stated:
        row = shown["after"][contrast["measure"]][contrast["arm"]]
        got = [row["difference"][k] for k in ("mean", "low", "high", "n")]
        assert got == pytest.approx([contrast[k] for k in ("difference", "low", "high", "n")])
        assert row["difference"]["digits"] == labels.telling(labels.digits(contrast["measure"]), *got[:3])
        assert [verdict["verdict"] for verdict in row["verdicts"]] == [contrast["verdict"]]
        assert f"Holm p {labels.p_value(contrast['p_holm'])}" in row["verdicts"][0]["detail"]


def test_runs_that_are_missing_leave_differences_without_an_interval(analysed: Make) -> None:
    made = analysed(seeds=8, effects=SMALL, missing=(("80-10-10", 7),))
    shown = Reader(build(made).read_text(encoding="utf-8")).shown["experiments"][0]
    found = shown["ends"][LOSS]["100-0-0"]["difference"]
    assert (found["low"], found["high"], found["n"]) == (None, None, 7)


def test_twice_the_same_bytes(analysed: Make) -> None:
    made = analysed(seeds=2, effects=SMALL)
    assert build(made).read_bytes() == build(made).read_bytes()


def test_nothing_is_loaded_and_no_other_script_may_run(analysed: Make) -> None:
    read = Reader(build(analysed(seeds=2, effects=SMALL)).read_text(encoding="utf-8"))
    names = {name for _, attributes in read.tags for name in attributes}
    assert not names & {"src", "href", "srcset", "action", "data", "poster", "style"}
    assert not [name for name in names if name.startswith("on")]
    assert not re.search(r"@import|url\(", "".join(read.texts["style"]))
    (policy,) = [a["content"] or "" for tag, a in read.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy and "*" not in policy
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in read.texts["script"]]
    assert re.findall(r"'sha256-([^']+)'", policy) == hashes
    assert not any(
        re.search(r"https?://", script) for script in read.texts["script"][1:] if "svg" not in script
    )


@pytest.mark.parametrize(
    "options",
    [
        {"seeds": 2, "evidence": False},
        {"seeds": 2, "diverged": tuple((arm, seed) for arm in EFFECTS for seed in range(2))},
        {"seeds": 2, "missing": tuple((arm, seed) for arm in EFFECTS for seed in range(2))},
        {"seeds": 1, "effects": SMALL},
    ],
    ids=["smoke", "all diverged", "nothing yet", "one seed"],
)
def test_whatever_is_there_makes_a_page(analysed: Make, options: dict[str, object]) -> None:
    made = analysed(**options)
    text = build(made).read_text(encoding="utf-8")
    shown = Reader(text).shown
    assert ('<p class="mark" role="note">smoke, not evidence</p>' in text) == (not made.evidence)
    assert bool(shown["experiments"][0]["mark"]) == ("missing" in options)
    assert bool(shown["measures"]) == ("missing" not in options and "diverged" not in options)
    if options["seeds"] == 1:
        assert set(shown["experiments"][0]["arms"][0]["curves"][LOSS]["low"]) == {None}


def test_lost_tables_are_named_with_their_remedy(analysed: Make) -> None:
    made = analysed(seeds=2, effects=SMALL)
    made.table("seconds.csv").unlink()
    with pytest.raises(InputError, match=r"seconds.csv: missing;? .*analysis collect laptop split"):
        build(made)
    with pytest.raises(InputError, match="there are: split"):
        comparison.write(study.load(made.scale), ["splat"])


def test_a_name_cannot_break_out_of_the_page(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made = hostile(make, monkeypatch)
    text = build(made).read_text(encoding="utf-8")
    read = Reader(text)
    assert [arm["name"] for arm in read.shown["experiments"][0]["arms"]] == ["80-10-10", HOSTILE]
    assert read.shown["experiments"][0]["title"] == HOSTILE
    assert "onerror=window" not in re.sub(r"\\u003c.*?\\u003e", "", text)
    assert not [tag for tag, _ in read.tags if tag == "img"]
    assert len([tag for tag, _ in read.tags if tag == "script"]) == text.count("<script") == 7
