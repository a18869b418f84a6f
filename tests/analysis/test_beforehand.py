"""When contrasts were stated, told by real git repositories; nothing is guessed where git cannot tell."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic_results import EXPERIMENT, Synthetic, write_json
from synthetic_results import contrasts as stated_contrasts
from test_verdicts import quoter, said

from analysis import (
    beforehand,
    collect,
    contrasts,
    figure_contrasts,
    manuscript_part,
    numbers,
    report_tables,
    sentences,
    study,
)
from analysis.beforehand import Mark
from analysis.quote import Quoter
from mlm import registration
from mlm.errors import InputError
from mlm.files import read_json
from mlm.history import History, Row

FILE, BASE, SCALE = Path("experiments/e.yaml"), Path("experiments/base.yaml"), Path("experiments/scales/s.yaml")
LOWER = Row("primary", "a", "b", "probe.accuracy", "lower", None)
WITHIN = Row("equivalence", "c", "b", "probe.accuracy", None, 0.02)


def experiment(
    expect: str = "lower",
    *,
    measure: str = "probe.accuracy",
    margin: float = 0.02,
    seeds: int = 2,
    more: str = "",
) -> str:
    return f"""
title: T
baseline: b
seeds: {seeds}
primary_measure: {measure}
contrasts:
  primary: {{arm: a, expect: {expect}}}
  equivalence: [{{arm: c, margin: {margin}}}]
{more}"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study's folder, not yet a repository."""
    monkeypatch.chdir(tmp_path)
    put(SCALE, "evidence: true\n")
    put(FILE, experiment())
    return tmp_path


@pytest.fixture
def repository(here: Path) -> Path:
    """The same as a repository; its first commit states the contrasts."""
    git("init", "--quiet")
    commit()
    return here


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def git(*words: str) -> str:
    author = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *author, *words], check=True, capture_output=True, text=True).stdout.strip()


def commit() -> str:
    git("add", "--all", "--", "experiments", *(["docs"] if Path("docs").exists() else []))
    git("commit", "--quiet", "--allow-empty", "--message", "m")
    return git("rev-parse", "HEAD")


def ran(arm: str, seed: int, made_from: str | None) -> str:
    """A finished run, made from a commit; its digest."""
    digest = f"{arm}{seed}".ljust(16, "0")
    kinds = dict.fromkeys(("eligible", "selected", "mask", "same", "random", "predicted"), 1)
    write_json(Path("results/runs") / digest / "run.json", {
        "digest": digest, "status": "finished", "steps": 1, "tokens": 1, "flops": 1, "training_seconds": 1.0,
        "wall_seconds": 1.0, "realised": kinds, "diverged": None, "files": {}, "code": "c",
        "git": {"commit": made_from, "dirty": False}, "versions": {}, "device": "d",
        "data": {"corpus": {"title": "t", "licence": "l", "splits": {}}},
    })  # fmt: skip
    return digest


def both(made_from: str | None, seeds: tuple[int, ...] = (0, 1), other: str | None = "") -> dict[str, Any]:
    """Pairs of runs made from a commit, those of the other arm from another one if told."""
    against = made_from if other == "" else other
    runs = [ran("a", seed, made_from) for seed in seeds] + [ran("b", seed, against) for seed in seeds]
    return {"seeds": seeds, "digests": runs}


def mark(row: Row, pairs: dict[str, Any]) -> Mark:
    return beforehand.Evidence("s", "e").mark(row, **pairs)


def publish(*pairs: dict[str, Any]) -> str:
    """Commit results of the pairs as `publish` writes them."""
    lines = ["arm,seed,run,status,tokens,flops,training_seconds,wall_seconds,commit"]
    for one in pairs:
        for digest in one["digests"]:
            record = read_json(Path("results/runs") / digest / "run.json", "")
            lines.append(f"{digest[0]},{digest[1]},{digest},finished,1,1,1,1,{record['git']['commit']}")
    put(Path("docs/results/s/e/runs.csv"), "\n".join(lines) + "\n")
    return commit()


def test_comments_layout_order_and_other_keys_change_no_contrast(repository: Path) -> None:
    pairs = both(git("rev-parse", "HEAD"))
    put(FILE, "# a comment\n" + experiment(more="cost: more\n").replace("{arm: a,", "{ arm: a ,"))
    commit()
    assert mark(LOWER, pairs) == mark(WITHIN, pairs) == Mark("beforehand")


CHANGES: list[tuple[Row, dict[str, Any]]] = [
    (LOWER._replace(expect="higher"), {"expect": "higher"}),
    (WITHIN._replace(margin=0.05), {"margin": 0.05}),
    (LOWER._replace(measure="pairs.accuracy"), {"measure": "pairs.accuracy"}),
]


@pytest.mark.parametrize(("row", "change"), CHANGES)
@pytest.mark.parametrize("committed", [True, False])
def test_what_is_altered_after_the_runs_is_post_hoc(
    repository: Path, row: Row, change: dict[str, Any], committed: bool
) -> None:
    before = git("rev-parse", "HEAD")
    pairs = both(before)
    put(FILE, experiment(**change))
    if committed:
        commit()
    found = mark(row, pairs)
    assert (found.stated, before[:10] in found.stated_note) == ("post hoc", True)
    pairs = both(commit())  # all runs anew: nothing is left to tell that there were others
    assert mark(row, pairs).stated == "beforehand"


def test_a_contrast_that_was_secondary_is_no_primary_one(repository: Path) -> None:
    pairs = both(git("rev-parse", "HEAD"))
    assert mark(LOWER._replace(family="secondary"), pairs).stated == "post hoc"


def test_an_experiment_may_find_its_baseline_trained_already(here: Path) -> None:
    FILE.unlink()
    git("init", "--quiet")
    first = commit()
    put(FILE, experiment())
    assert mark(LOWER, both(commit(), other=first)).stated == "beforehand"
    assert mark(LOWER, both(first, other=first)).stated == "post hoc"


def test_what_is_published_counts_when_the_results_folder_is_gone(repository: Path) -> None:
    published = publish(both(git("rev-parse", "HEAD")))
    put(FILE, experiment("higher"))
    pairs = both(commit())
    found = mark(LOWER._replace(expect="higher"), pairs)
    assert (found.stated, published[:10] in found.stated_note) == ("post hoc", True)
    assert mark(WITHIN, pairs) == Mark("beforehand")


def test_a_change_between_runs_and_their_publication_shows_in_the_published_commits(repository: Path) -> None:
    old = both(git("rev-parse", "HEAD"))
    put(FILE, experiment("higher"))
    commit()
    publish(old)
    assert mark(LOWER._replace(expect="higher"), both(git("rev-parse", "HEAD"))).stated == "post hoc"


def test_an_experiment_changes_with_the_one_that_it_extends(repository: Path) -> None:
    put(BASE, experiment())
    put(FILE, "extends: base\nseeds: 3\n")
    pairs = both(commit())
    assert mark(LOWER, pairs).stated == "beforehand"
    put(BASE, experiment("higher"))
    changed = commit()
    assert mark(LOWER._replace(expect="higher"), pairs).stated == "post hoc"
    assert History("s").changed_in("e") == changed
    put(FILE, f"extends: base\n{experiment()}")  # its own in their place
    assert History("s").uncommitted("e") is True
    assert mark(LOWER, pairs).stated == "beforehand"


def test_outside_a_repository_it_is_not_known(here: Path) -> None:
    assert mark(LOWER, both("0" * 40)).stated == mark(LOWER, both(None)).stated == "not known"
    assert History("s").changed_in("e") is History("s").uncommitted("e") is None


def test_a_shallow_clone_does_not_guess(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = git("rev-parse", "HEAD")
    put(FILE, experiment(more="cost: none\n"))
    commit()
    git("clone", "--quiet", "--depth", "1", f"file://{repository}", "shallow")
    monkeypatch.chdir(repository / "shallow")
    assert mark(LOWER, both(first)).stated == "not known"
    assert History("s").changed_in("e") is None
    here = both(git("rev-parse", "HEAD"))
    assert mark(LOWER, here) == Mark("not known", "the git history is shallow")
    assert mark(LOWER._replace(expect="higher"), here).stated == "post hoc"  # this much it shows


def test_a_commit_that_is_not_here_or_not_recorded_is_not_known(repository: Path) -> None:
    assert "0000000000" in mark(LOWER, both("0" * 40)).stated_note
    assert mark(LOWER, both(None)) == Mark("not known", "the commit of a run was not recorded")
    put(FILE, "contrasts: of an older kind\n")
    assert mark(LOWER, both(commit())).stated == "not known"


def test_a_study_may_lie_in_a_folder_of_a_repository(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / "inner").mkdir()
    git("mv", "experiments", "inner/experiments")
    git("commit", "--quiet", "--message", "m")
    monkeypatch.chdir(repository / "inner")
    assert mark(LOWER, both(git("rev-parse", "HEAD"))).stated == "beforehand"
    assert History("s").uncommitted("e") is False
    put(FILE, experiment("higher"))
    assert History("s").uncommitted("e") is True


def test_seeds_that_were_asked_for_when_there_were_results_are_told(repository: Path) -> None:
    first = both(git("rev-parse", "HEAD"))
    put(FILE, experiment(seeds=4))
    second = both(commit(), seeds=(2, 3))
    arms = [[*first["digests"][part], *second["digests"][part]] for part in (slice(2), slice(2, 4))]
    assert mark(LOWER, {"seeds": (0, 1, 2, 3), "digests": [*arms[0], *arms[1]]}).seeds_added == (2, 3)
    publish(first)  # of two seeds, whatever the file states by then
    anew = both(git("rev-parse", "HEAD"), seeds=(0, 1, 2, 3))
    assert mark(LOWER, anew) == Mark("beforehand", "", (2, 3))


def test_a_scale_may_ask_for_more_seeds(repository: Path) -> None:
    first = git("rev-parse", "HEAD")
    put(SCALE, "seeds_at_least: 4\n")
    all_four = both(commit(), seeds=(0, 1, 2, 3))
    assert mark(LOWER, all_four).seeds_added == ()
    for arm in "ab":
        ran(arm, 0, first)
    assert mark(LOWER, all_four).seeds_added == (2, 3)


def test_the_first_run_fixes_the_registration(repository: Path) -> None:
    begun = git("rev-parse", "HEAD")
    registration.write("s", ["e"])
    assert registration.registered("s", "e") is None  # nothing has begun: the file may still change
    put(FILE, experiment("differ"))
    assert [line.partition(": ")[0] for line in notes()] == [str(FILE)]  # in no commit yet
    changed = commit()
    assert notes() == []
    registration.write("s", ["e"])
    registration.begin("s", "e", "run")
    registration.begin("s", "e", "another")
    content = read_json(registration.path_of("s", "e"), "")
    assert (content["first_run"], content["contrasts_changed_in"], content["git_commit"]) == (
        "run",
        changed,
        changed,
    )
    assert changed != begun and content["file_sha256"].keys() == {str(FILE), str(SCALE)}
    put(FILE, experiment("lower"))
    commit()
    registration.write("s", ["e"])
    assert read_json(registration.path_of("s", "e"), "") == content
    assert "changed since the first run began" in notes()[0]
    assert mark(LOWER, both(git("rev-parse", "HEAD"))).stated == "post hoc"
    assert beforehand.Evidence("s", "e").withdrawn([LOWER, WITHIN]) == [LOWER._replace(expect="differ")]
    put(FILE, experiment("differ").replace("equivalence: [{arm: c, margin: 0.02}]", "equivalence: []"))
    assert "what is gone is named below each table" in notes()[0]


def test_half_a_file_is_registered_by_nobody(repository: Path) -> None:
    """One that a run has begun with is never replaced, so it must not say that nothing was stated."""
    whole = FILE.read_text()
    FILE.write_text(whole[: len(whole) // 2])
    for register in (lambda: registration.begin("s", "e", "a0"), lambda: registration.write("s", ["e"])):
        with pytest.raises(
            InputError, match=r"experiments/e\.yaml: cannot be read, .* Run the same command again"
        ):
            register()
    assert not registration.path_of("s", "e").exists()
    FILE.write_text(whole)
    registration.begin("s", "e", "a0")
    assert registration.registered("s", "e")


def test_what_is_no_longer_stated_since_there_were_results_is_known(repository: Path) -> None:
    def withdrawn(*now: Row) -> list[Row]:
        return beforehand.Evidence("s", "e").withdrawn(now)

    assert withdrawn() == []  # nothing has begun: all may still change
    registration.begin("s", "e", "run")
    assert withdrawn(WITHIN, LOWER) == []
    assert withdrawn(LOWER) == [WITHIN]
    put(FILE, experiment("higher"))
    publish(both(commit()))
    registration.path_of("s", "e").unlink()
    assert withdrawn(LOWER, WITHIN) == [LOWER._replace(expect="higher")]  # what is published still tells


def notes() -> list[str]:
    now = History("s").stated("", "e")
    assert now is not None
    return list(registration.problems("s", {"e": [row._asdict() for row in now.contrasts]}))


def test_the_registration_tells_of_changes_where_git_cannot(here: Path) -> None:
    registration.begin("s", "e", "run")
    pairs = both(None)
    assert mark(LOWER, pairs).stated == "not known"
    assert mark(LOWER._replace(expect="higher"), pairs).stated == "post hoc"


def test_the_mark_is_in_every_table(make: Callable[..., Synthetic]) -> None:
    made = make(effects={"80-10-10": 0.0, "100-0-0": -0.03, "81-9-10": 0.0})
    rows, path = stated_contrasts(made.effects), made.results / made.scale / "study.json"
    equivalence = [{"arm": "81-9-10", "margin": 0.02}]
    write_json(Path(f"experiments/{EXPERIMENT}.yaml"), {  # JSON is YAML
        "baseline": "80-10-10", "seeds": 8, "primary_measure": "probe.accuracy",
        "contrasts": {"primary": {"arm": "100-0-0", "expect": "lower"}, "equivalence": equivalence},
    })  # fmt: skip
    git("init", "--quiet")
    first = commit()
    for digest in made.digests.values():
        record = made.results / "runs" / digest / "run.json"
        write_json(record, read_json(record, "") | {"git": {"commit": first, "dirty": False}})
    collect.collect(study.load(made.scale), EXPERIMENT)
    assert found(made)["100-0-0"].stated == found(made)["81-9-10"].stated == "beforehand"
    content = read_json(path, "")
    content["experiments"][EXPERIMENT]["contrasts"] = [rows[0] | {"expect": "differ"}, *rows[1:]]
    write_json(path, content)
    now = found(made)
    assert (now["100-0-0"].stated, now["81-9-10"].stated) == ("post hoc", "beforehand")
    assert now["100-0-0"].words == "100/0/0 − 80/10/10, post hoc"
    line = next(one for one in made.table("contrasts.csv").read_text().splitlines() if ",100-0-0," in one)
    assert f',post hoc,"commit {first[:10]}, which runs were made from, does not state it",' in line
    panel = report_tables.contrasts(list(now.values()))
    assert panel.rows[0][0].endswith(", post hoc") and "Post hoc: added or changed" in panel.caption
    assert not panel.rows[1][0].endswith("post hoc")
    drawn = [text.get_text() for text in figure_contrasts.draw(list(now.values())).axes[0].texts]
    assert [text.partition("\n")[2] for text in drawn if text.startswith(now["100-0-0"].verdict)] == [
        "post hoc"
    ]
    assert "post hoc" not in "".join(text for text in drawn if text.startswith(now["81-9-10"].verdict))
    assert "(a difference expected, in no direction, post hoc)" in said(now["100-0-0"])
    assert "withdrawn" not in panel.caption

    registration.begin(made.scale, EXPERIMENT, "run")
    now = found(made)
    loaded = contrasts.load_all(made.scale, EXPERIMENT)
    gone = [row for row in loaded.withdrawn if row.arm == "100-0-0"]
    assert [row.expect for row in gone] == ["lower"]
    told = (
        "withdrawn or changed when there were results already: "
        "100/0/0 − 80/10/10 in part-of-speech accuracy (primary, expected: lower)"
    )
    assert told in report_tables.contrasts(loaded.results, loaded.withdrawn).caption
    quote = Quoter(dict(numbers.of(study.load(made.scale), EXPERIMENT)))
    assert told in manuscript_part.Part(study.load(made.scale), EXPERIMENT, quote).contrasts_table()
    assert "stated beforehand" not in sentences.headline(now["100-0-0"], quoter(now["100-0-0"]))


def found(made: Synthetic) -> dict[str, contrasts.Result]:
    contrasts.write(study.load(made.scale), EXPERIMENT)
    return {one.arm: one for one in contrasts.load(made.scale, EXPERIMENT)}
