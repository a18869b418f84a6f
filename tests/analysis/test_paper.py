"""The paper: whole, the same bytes twice, true to its marks, and stopped by a number that is not there."""

import io
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import synthetic_experiments as more
import synthetic_study
from matplotlib.figure import Figure
from synthetic_results import EXPERIMENT, Synthetic, accept

from analysis import (
    arxiv,
    collect,
    contrasts,
    latex_characters,
    multiplicity,
    numbers,
    outputs,
    paper,
    published,
    study,
    style,
)
from analysis.quote import Quoter, UnknownNumber
from mlm import yaml_file
from mlm.errors import InputError
from mlm.files import read_json

Make = Callable[..., Synthetic]


@pytest.fixture(scope="module")
def picture() -> bytes:
    """A figure that costs little; the real ones have tests of their own."""
    buffer = io.BytesIO()
    Figure(figsize=(2, 1)).savefig(buffer, format="pdf", metadata={"CreationDate": None})
    return buffer.getvalue()


@pytest.fixture
def ready(analysed: Make, picture: bytes) -> Make:
    def build(**options: object) -> Synthetic:
        made = analysed(**options)
        planned = study.load(made.scale)
        for name in outputs.files("figures", made.scale, EXPERIMENT):
            path = made.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture)
        numbers.write(planned, [EXPERIMENT])
        return made

    return build


def text_of(made: Synthetic) -> str:
    planned = study.load(made.scale)
    return paper.render(planned, [EXPERIMENT], Quoter(numbers.load(made.scale)))


def test_the_paper_twice_the_same_bytes_and_every_quoted_number_in_its_ledger(ready: Make) -> None:
    made = ready()
    bits = []
    for _ in range(2):
        paper.write(study.load(made.scale))
        bits.append([(made.root / name).read_bytes() for name in outputs.files("paper", made.scale)])
    assert bits[0] == bits[1]
    assert bits[0][0].startswith(b"%PDF")
    text = bits[0][1].decode()
    entries = numbers.load(made.scale)
    ledger = re.findall(r"^\| `(split[^`]+)` \|", text, flags=re.MULTILINE)
    assert len(ledger) > 40 and set(ledger) <= set(entries)
    assert "smoke" not in text and "<<" not in text
    assert "*supported*: 100/0/0 is lower, as stated." in text


def test_numbers_have_their_runs_and_no_seconds(ready: Make) -> None:
    made = ready()
    entries = read_json(made.results / made.scale / "numbers.json", "")
    mean = entries["split.100-0-0.probe.accuracy.mean"]
    assert sorted(mean["runs"]) == sorted(made.digests["100-0-0", seed] for seed in made.seeds)
    assert mean["n"] == 8 and mean["low"] < mean["value"] < mean["high"]
    difference = entries["split.contrast.100-0-0.probe.accuracy.difference"]
    assert len(difference["runs"]) == 16 and difference["high"] < 0
    assert entries["split.setup.parameters"]["value"] == 32 * 16 + 16
    assert entries["split.setup.steps"]["value"] == 640
    assert {"value", "low", "high", "n", "digits", "unit", "runs", "code", "git_commit"} <= mean.keys()
    assert not [key for key in entries if "second" in key]
    numbers.write(study.load(made.scale), [EXPERIMENT])
    assert read_json(made.results / made.scale / "numbers.json", "") == entries


def test_an_accepted_change_of_the_code_is_disclosed(ready: Make) -> None:
    made = ready(seeds=2)
    assert "accepted" not in text_of(made)
    accept(made, "100-0-0")
    numbers.write(study.load(made.scale), [EXPERIMENT])
    entry = numbers.load(made.scale)["split.runs.accepted"]
    assert (entry["value"], entry["runs"]) == (2, sorted(made.digests["100-0-0", seed] for seed in made.seeds))
    section = text_of(made).partition("# Reproducibility")[2].partition("\n# ")[0]
    assert "It was looked at, and accepted:" in section
    assert "- *split*: a fused \\[kernel\\] rounds otherwise" in section
    paper.write(study.load(made.scale))


@pytest.mark.parametrize(
    "options",
    [
        {"seeds": 2, "evidence": False},
        {"seeds": 8, "missing": (("0-0-100", 3),), "diverged": (("100-0-0", 0),)},
        {"seeds": 1},
    ],
    ids=["smoke", "partial", "one seed"],
)
def test_the_text_reads_whatever_is_there(ready: Make, options: dict[str, object]) -> None:
    made = ready(**options)
    text = text_of(made)
    assert ("smoke, not evidence" in text) == (not made.evidence)
    assert ("The study is not complete" in text) == ("missing" in options)
    assert "None" not in text and "nan" not in text.lower().split()
    if "missing" in options:
        paper.write(study.load(made.scale))


MORE = {"rate": more.rate, "credit": lambda made: more.credit(made, lost=2.6), "corruptions": more.corruptions}


@pytest.fixture
def several(ready: Make, picture: bytes) -> Make:
    """Other experiments beside `split`, or, told so, in its place."""

    def build(names: Sequence[str], *, alone: bool = False) -> Synthetic:
        made = ready(seeds=2, effects={"80-10-10": 0.0, "100-0-0": -0.03})
        for name in names:
            MORE[name](made)
        path = made.results / made.scale / "study.json"
        content = read_json(path, "")
        if alone:
            del content["experiments"][EXPERIMENT]
            content["index"] = [cell for cell in content["index"] if cell["experiment"] != EXPERIMENT]
            path.write_text(json.dumps(content))
        planned = study.load(made.scale)
        for name in names:
            collect.collect(planned, name)
            contrasts.write(planned, name)
            own = [one.stem for one in planned.experiment(name).figures]
            for figure in outputs.files("figures", made.scale, name, own):
                (made.root / figure).parent.mkdir(parents=True, exist_ok=True)
                (made.root / figure).write_bytes(picture)
        numbers.write(planned, list(planned.experiments))
        return made

    return build


def test_every_experiment_of_the_scale_has_its_part_and_no_other(several: Make) -> None:
    made = several(["rate", "credit", "corruptions"])
    planned = study.load(made.scale)
    text = paper.render(planned, list(planned.experiments), Quoter(numbers.load(made.scale)))
    for name, one in planned.experiments.items():
        part = text.partition(f"{{#sec:{name}}}")[2].partition("\n## ")[0]
        assert part.count(f"> {one.question}") == 1 and f"*{one.claim}*" in part
        for label in ("arms", "contrasts"):
            assert f"{{#tbl:{name}-{label}}}" in part
        for figure in ("contrasts", *(own.stem for own in one.figures)):
            assert f"{{#fig:{name}-{figure}}}" in part
        assert re.search(r"The primary contrast, .* --- \*(supported|descriptive)\*", part)
        assert re.search(r"\*\*Cost\.\*\* [\d,]+ of [\d,]+ runs finished", part)
    assert "split.contrast.100-0-0" in text and "[@devlin2019bert], appendix C.2, beside this study" in text
    assert "Here $r$ is 0.15, 0.3, 0.45 or 0.6." in " ".join(text.split())
    quote = Quoter(numbers.load(made.scale))
    assert f"{quote.est('credit.leaving.0.001.mlm.slope')} for MLM" in text
    assert f"a difference of {quote.est('credit.leaving.0.004.mlm.minus.causal.slope')}" in text
    told = [
        r for name in planned.experiments for r in contrasts.load(made.scale, name) if r.family == "primary"
    ]
    held = [quote.entry(f"{r.id}.p_holm_primaries")["value"] for r in told]
    adjusted = multiplicity.holm([1.0 if r.p is None else r.p for r in told])
    assert held == [None if r.p is None else p for r, p in zip(told, adjusted, strict=True)]
    assert "{#tbl:primaries}" in text
    rest = paper.render(planned, ["rate"], Quoter(numbers.load(made.scale)))
    assert (
        "tbl:primaries" not in rest
        and "sec:split" not in rest
        and "sec:credit" not in rest
        and "slope of log tokens" not in rest
    )


def test_a_scale_without_split_has_a_paper_too(several: Make) -> None:
    made = several(["credit"], alone=True)
    paper.write(study.load(made.scale))
    text, source = ((made.root / name).read_bytes() for name in outputs.files("paper", made.scale)[1:])
    assert b"split/" not in text.replace(b"/results/laptop/figures/credit", b"") and b"<<" not in text
    assert b"#figure" in source and b"credit-leaving" in source


def test_a_run_that_several_experiments_have_counts_once(several: Make) -> None:
    made = several(["rate"], alone=True)
    path = made.results / made.scale / "study.json"
    content = read_json(path, "")
    content["experiments"]["again"] = content["experiments"]["rate"]
    content["index"] += [cell | {"experiment": "again"} for cell in content["index"]]
    path.write_text(json.dumps(content))
    planned = study.load(made.scale)
    collect.collect(planned, "again")
    contrasts.write(planned, "again")
    numbers.write(planned, ["rate", "again"])
    entries = numbers.load(made.scale)
    assert entries["all.runs.finished"]["value"] == entries["rate.cost.shared"]["value"] == 64
    runs = [read_json(file, "") for file in made.results.glob("runs/*/run.json")]
    mine = {cell["digest"] for cell in content["index"]}
    spent = sum(run["tokens"] for run in runs if run["digest"] in mine)
    assert entries["again.cost.tokens"]["value"] == spent


def test_a_part_may_go_without_remarks_and_its_errors_name_their_file(several: Make) -> None:
    made = several(["rate"])
    remarks = made.root / "paper" / "experiments" / "rate.md"
    remarks.write_text("As [@fig:rate-dose] shows.\n<< num('rate.nothing') >>\n")
    planned = study.load(made.scale)
    with pytest.raises(
        InputError, match=r"paper/experiments/rate.md, line 2: no number has the id 'rate.nothing'"
    ):
        paper.render(planned, ["rate"], Quoter(numbers.load(made.scale)))
    remarks.write_text("As [@fig:rate-dose] shows.\n")
    assert "As [@fig:rate-dose] shows." in paper.render(planned, ["rate"], Quoter(numbers.load(made.scale)))


def test_an_unknown_number_stops_the_build_with_its_id_and_line(ready: Make) -> None:
    made = ready(seeds=1)
    source = made.root / "paper" / "paper.md"
    lines = source.read_text().splitlines()
    lines.insert(99, 'The accuracy is << num("split.100-0-0.probe.acuracy.mean") >>.')
    source.write_text("\n".join(lines))
    with pytest.raises(
        InputError,
        match=r"paper/paper.md, line 100: no number has the id 'split.100-0-0.probe.acuracy.mean'; near are",
    ):
        text_of(made)
    lines[99] = "The accuracy is << accuracy >>."
    source.write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"line 100: 'accuracy' is undefined"):
        text_of(made)
    lines[99] = "<% if %>"
    source.write_text("\n".join(lines))
    with pytest.raises(InputError, match="line 100: "):
        text_of(made)


def test_the_data_statement_names_licence_and_origin_of_every_source(ready: Make) -> None:
    made = ready()
    origins = ["one==1 (python), SHA-256 0123456789abcdef...", "two@2 (npm), SHA-256 fedcba9876543210..."]
    for file in sorted(made.results.glob("runs/*/run.json")):
        record = json.loads(file.read_text())
        record["data"]["corpus"] |= {
            "title": "A mixture",
            "licence": "One: free. Two: freer.",
            "sources": [{"title": "t", "licence": "l", "origin": origin} for origin in origins],
        }
        file.write_text(json.dumps(record))
    text = " ".join(text_of(made).split())
    assert "*Training text:* A mixture. One: free. Two: freer. It is split by whole document:" in text
    assert f"It was read from `{origins[0]}` and `{origins[1]}`." in text


def test_the_text_is_as_wide_as_figures_are_made() -> None:
    assert f"(x: (210mm - {style.WIDTH}in) / 2," in (outputs.PAPER / "paper.typ.tpl").read_text()
    assert f"[textwidth={style.WIDTH}in," in (outputs.PAPER / "paper.tex.tpl").read_text()


def test_dashes_hyphens_and_letters_survive() -> None:
    typst = paper.to_typst(
        "---\ntitle: x\n---\n\n"
        "80–90 well-read — ẞ Kučera “so” −0.5 ReLU² `--cores` $\\delta$ 100 % #1 @ <b\\> [MASK]"
    )
    for piece in ("well-read", "Kučera", "−0.5", "ReLU²", "`--cores`", "ẞ", "\\#1", "MASK"):
        assert piece in typst


def test_published_values_are_those_of_the_source() -> None:
    c2 = published.load("c2")
    assert c2.rows["100-0-0"] == {"mnli": 84.3, "ner": 94.9, "ner_features": 94.0}
    with pytest.raises(InputError, match="there are: c2"):
        published.load("c3")


def test_all_experiments_as_they_are_stated_make_one_paper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: bytes
) -> None:
    for folder in ("paper", "experiments", "analysis/captions"):
        shutil.copytree(Path(folder), tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    names = yaml_file.read(Path("experiments/scales/workstation.yaml"), "")["experiments"]
    names.append("split-rates")  # its rates are half and double that of the scale `laptop`
    scale = Path("experiments/scales/smoke.yaml")
    scale.write_text(scale.read_text().replace("seeds_at_most: 2", "seeds_at_most: 1"))
    synthetic_study.write("smoke", names, few=True)
    planned = study.load("smoke")
    for name in names:
        collect.collect(planned, name)
        contrasts.write(planned, name)
        for path in outputs.files(
            "figures", "smoke", name, [one.stem for one in planned.experiment(name).figures]
        ):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_bytes(picture)
    numbers.write(planned, names)
    paper.write(planned, names)
    text = (outputs.paper("smoke") / "paper.md").read_text()
    assert len(names) == 14 and {path.stem for path in Path("paper/experiments").glob("*.md")} == set(names)
    assert "<<" not in text and "<%" not in text and "None" not in text
    for name in names:
        remark = Path(f"paper/experiments/{name}.md").read_text().splitlines()
        plain = next(line for line in remark if not line.startswith("<%") and "<<" not in line)
        assert plain in text.partition(f"{{#sec:{name}}}")[2].partition("\n## ")[0]
    for name in names:  # no picture twice: where `over` shows the same, it stands for `curves`
        again = name in ("length", "schedules")
        assert (f"{{#fig:{name}-curves}}" in text) != again
        assert (f"The learning curves of all arms are in [@fig:{name}-over]." in text) == again
    tables = ["split-c2", "split-12m-c2", "rate-wettig", "schedules-ankner"]
    assert [table for table in tables if f"{{#tbl:{table}}}" in text] == tables
    assert "Of the primary contrasts all are descriptive." in " ".join(text.split())
    tex = arxiv.to_latex(text)
    latex_characters.check(tex, "paper.tex")
    references = set(re.findall(r"\\(?:eq)?ref\{([^}]+)\}", tex))
    assert len(references) > 60 and references <= set(re.findall(r"\\label\{([^}]+)\}", tex))


def test_quoting_nothing_is_an_error() -> None:
    with pytest.raises(UnknownNumber, match=r"'a\.b'"):
        Quoter({}).num("a.b")
