"""Runs of different code, and runs of a changed work tree: refused or told, from tables to paper."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import synthetic_experiments as more
from matplotlib.figure import Figure
from synthetic_results import EFFECTS, EXPERIMENT, Synthetic
from test_analysis_commands import call

from analysis import (
    collect,
    comparison_content,
    contrasts,
    marks,
    numbers,
    outputs,
    paper,
    report_content,
    study,
    table,
    tidy,
)
from analysis.quote import Quoter
from mlm.errors import InputError
from mlm.files import read_json, write_json

SMALL = {arm: EFFECTS[arm] for arm in ("80-10-10", "100-0-0")}
OTHER = "another0code0000"
MARK = "mixed code: 1 run of another0, 3 runs of syntheti"
Make = Callable[..., Synthetic]


def said(made: Synthetic, arm: str, seed: int, **changes: object) -> None:
    """Have a run say something else of itself."""
    path = made.folder(arm, seed) / "run.json"
    write_json(path, read_json(path, "") | changes)


def text_of(made: Synthetic, *names: str) -> str:
    planned = study.load(made.scale)
    for name in names:
        for figure in outputs.files(
            "figures", made.scale, name, [f.stem for f in planned.experiment(name).figures]
        ):
            Path(figure).parent.mkdir(parents=True, exist_ok=True)
            Figure(figsize=(1, 1)).savefig(figure, format=Path(figure).suffix[1:])
    return paper.render(planned, names, Quoter(numbers.load(made.scale)))


def test_a_mixture_is_refused_unless_asked_for_and_then_every_output_says_so(make: Make) -> None:
    made = make(seeds=2, effects=SMALL)
    said(made, "100-0-0", 1, code=OTHER)
    refused = call(made.root, "collect", made.scale, EXPERIMENT)
    assert refused.returncode == 2 and "`--config mixed=true`" in refused.stderr
    assert f"{OTHER}: 1 runs, such as results/runs/{made.digests['100-0-0', 1]}" in refused.stderr
    assert call(made.root, "collect", made.scale, EXPERIMENT, "--mixed").returncode == 0
    planned = study.load(made.scale)
    contrasts.write(planned, EXPERIMENT)
    with pytest.raises(InputError, match=r"the runs of split were trained by different code"):
        numbers.write(planned, [EXPERIMENT])
    numbers.write(planned, [EXPERIMENT], mixed=True)
    table.write(planned, EXPERIMENT)
    collected = tidy.load(made.scale, EXPERIMENT)
    assert marks.of(planned, collected) == [MARK]
    runs = f"Runs of code {OTHER}: 100-0-0/seed-1."
    assert f"**{MARK}**" in made.table("table.md").read_text() and runs in made.table("table.md").read_text()
    assert f"% {runs}" in made.table("table.tex").read_text()
    report = report_content.build(planned, EXPERIMENT)
    assert report.marks == (MARK,) and (f"runs of code {OTHER}", "100-0-0/seed-1") in report.provenance
    assert comparison_content.content(planned, [EXPERIMENT])["experiments"][0]["mark"] == MARK
    told = text_of(made, EXPERIMENT)
    assert f'  - "{MARK}"' in told and 'watermark: "mixed code"' in told
    assert f"- code `{OTHER}`: split 100-0-0/seed-1" in told
    entries = numbers.load(made.scale)
    assert entries["split.100-0-0.probe.accuracy.mean"]["code"] == [OTHER, "synthetic0code00"]
    assert entries["split.80-10-10.probe.accuracy.mean"]["code"] == ["synthetic0code00"]


def test_experiments_of_different_code_are_a_mixture_too(make: Make) -> None:
    made = make(seeds=2, effects=SMALL)
    more.rate(made, seeds=2)
    planned = study.load(made.scale)
    for cell in planned.cells("rate"):
        path = made.results / "runs" / cell.digest / "run.json"
        write_json(path, read_json(path, "") | {"code": OTHER})
    for name in (EXPERIMENT, "rate"):
        collect.collect(planned, name, mixed=name == "rate")  # whose code is not the planned one
        contrasts.write(planned, name)
        assert not marks.of(planned, tidy.load(made.scale, name))
    with pytest.raises(InputError, match="the runs of split, rate were trained by different code"):
        numbers.write(planned, [EXPERIMENT, "rate"])
    numbers.write(planned, ["rate"])
    numbers.write(planned, [EXPERIMENT, "rate"], mixed=True)
    told = text_of(made, EXPERIMENT, "rate")
    assert "mixed code: 16 runs of another0, 4 runs of syntheti" in told and f"- code `{OTHER}`: rate " in told


def test_one_code_and_a_clean_tree_are_not_talked_about(make: Make) -> None:
    made = make(seeds=2, effects=SMALL)
    planned = study.load(made.scale)
    collect.collect(planned, EXPERIMENT, mixed=True)
    contrasts.write(planned, EXPERIMENT)
    numbers.write(planned, [EXPERIMENT], mixed=True)
    table.write(planned, EXPERIMENT)
    told = text_of(made, EXPERIMENT) + made.table("table.md").read_text()
    assert "mixed" not in told and "dirty" not in told and "with changes" not in told


def test_a_changed_work_tree_is_told_in_tables_numbers_and_paper(make: Make) -> None:
    made = make(seeds=2, effects=SMALL)
    clean = json.loads((made.folder("80-10-10", 0) / "run.json").read_text())["git"]["commit"]
    said(made, "100-0-0", 1, git={"commit": clean, "dirty": True})
    planned = study.load(made.scale)
    collect.collect(planned, EXPERIMENT)
    contrasts.write(planned, EXPERIMENT)
    numbers.write(planned, [EXPERIMENT])
    table.write(planned, EXPERIMENT)
    entries = numbers.load(made.scale)
    assert entries["split.100-0-0.probe.accuracy.mean"]["git_commit"] == [clean, f"{clean}+dirty"]
    assert entries["split.80-10-10.probe.accuracy.mean"]["git_commit"] == [clean]
    assert f"{clean} (3), {clean}+dirty (1)" in made.table("table.md").read_text()
    assert f"{clean} (3), {clean}+dirty (1)" in made.table("table.tex").read_text()
    assert list(read_json(made.table("collected.json"), "")["commits"]) == [clean, f"{clean}+dirty"]
    assert f"`{clean} (with changes)`" in text_of(made, EXPERIMENT)
