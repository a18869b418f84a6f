"""Reports of what there is: marked, without verdicts, in a place that the pipeline does not see."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import synthetic_experiments as more
from synthetic_results import EXPERIMENT, Synthetic, write_json
from test_analysis_commands import call

from analysis import contrasts, outputs, partial, study
from mlm import registration
from mlm.errors import InputError

Make = Callable[..., Synthetic]
TWO = {"80-10-10": 0.0, "100-0-0": -0.03}
MARK = "partial: 15 of 16 runs measured, no verdicts"


def bits(place: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}


def test_it_is_marked_has_no_p_and_no_verdict_and_leaves_the_rest_alone(make: Make) -> None:
    made = make(effects=TWO, missing=(("100-0-0", 7),))
    more.corruptions(made, seeds=2)
    before, scale = bits(made.results), outputs.partial(made.scale)
    done = call(made.root, "partial", made.scale, EXPERIMENT, "corruptions")
    assert done.returncode == 0, done.stderr
    complete = "corruptions: all 6 runs are measured; `snakemake --cores all --config scale=laptop corruptions`"
    assert done.stderr == f"{EXPERIMENT}: {MARK}\n{complete} makes its tables\n"
    assert [*map(Path, done.stdout.split())] == [outputs.report(scale, EXPERIMENT), outputs.comparison(scale)]
    place, after = made.results / scale, bits(made.results)
    assert before.items() <= after.items()
    assert all(path.is_relative_to(place) for path in after.keys() - before.keys())
    assert not list(place.rglob("corruptions.html")) + list(place.rglob("corruptions/contrasts.*"))

    contrasts.write(study.load(scale), EXPERIMENT)  # any command works there
    assert bits(made.results) == after
    found = pd.read_csv(place / "tables" / EXPERIMENT / "contrasts.csv")
    assert {*found["verdict"]} == {"partial"} and found["p"].isna().all() and found["p_holm"].isna().all()
    told = ["p_beyond", "low", "high", "two_level_low", "two_level_high"]
    assert found[told].isna().to_numpy().all()
    assert found["n"].iloc[0] == 7 and found["difference"].notna().iloc[0]
    page = (made.root / outputs.report(scale, EXPERIMENT)).read_text()
    assert MARK in page and MARK in (place / "tables" / EXPERIMENT / "table.md").read_text()
    assert not any(f'class="chip {one}"' in page for one in ("supported", "contradicted", "inconclusive"))
    assert 'href="../comparison.html"' in page and "paper.pdf" not in page


def test_trials_of_learning_rates_have_a_page_while_they_go_on(make: Make) -> None:
    made = make(effects=TWO, seeds=2)
    name = more.trials(made, EXPERIMENT, {"80-10-10": [4.0, 3.9, 4.2]})
    last = study.load(made.scale).cells(name)[-1].digest
    (made.results / "runs" / last / "run.json").unlink()
    pages, told = partial.write(study.load(made.scale), [name])
    assert told == [f"{name}: partial: 5 of 6 runs measured, no verdicts"]
    assert name in Path(pages[0]).read_text()


def test_what_was_added_or_withdrawn_since_the_runs_began_is_told_there_too(make: Make) -> None:
    """The registration is the scale's: results/SCALE/partial has none of its own."""
    made = make(effects=TWO, missing=(("100-0-0", 7),))
    rows = [{"family": "primary", "arm": "100-0-0", "against": "80-10-10", "measure": "probe.accuracy",
             "expect": "higher", "margin": None}]  # fmt: skip
    write_json(
        registration.path_of(made.scale, EXPERIMENT),
        {"contrasts": rows, "seeds": [*range(8)], "first_run": "run"},
    )
    partial.write(study.load(made.scale), [EXPERIMENT])
    found = contrasts.load_all(outputs.partial(made.scale), EXPERIMENT)
    assert [one.stated for one in found.results] == ["post hoc"]
    assert [row.expect for row in found.withdrawn] == ["higher"]
    page = Path(outputs.report(outputs.partial(made.scale), EXPERIMENT)).read_text()
    assert "Post hoc: added or changed when there were results already." in page


@pytest.mark.parametrize("begun", [False, True])
def test_what_is_complete_or_not_begun_is_told_and_has_no_files(make: Make, begun: bool) -> None:
    made = make(
        seeds=2, effects=TWO, missing=() if begun else tuple((arm, seed) for arm in TWO for seed in (0, 1))
    )
    place = made.results / outputs.partial(made.scale)
    for stale in ("comparison.html", f"reports/{EXPERIMENT}.html", f"figures/{EXPERIMENT}/curves.svg"):
        (place / stale).parent.mkdir(parents=True, exist_ok=True)
        (place / stale).touch()
    pages, (line,) = partial.write(study.load(made.scale), [EXPERIMENT])
    assert pages == []
    told = "all 4 runs are measured; `snakemake --cores all" if begun else "no run is measured yet"
    assert line.startswith(f"{EXPERIMENT}: {told}")
    assert not [path for path in bits(place) if path.parts[-2] not in ("partial", EXPERIMENT)]
    assert not [path for path in bits(place) if path.suffix in (".html", ".svg") or "contrasts" in path.name]


def test_an_unknown_experiment_is_refused_before_anything_is_written(make: Make) -> None:
    made = make(seeds=2, effects=TWO)
    with pytest.raises(InputError, match="no experiment is called 'splitt'"):
        partial.write(study.load(made.scale), [EXPERIMENT, "splitt"])
    assert not (made.results / made.scale / "partial").exists()
