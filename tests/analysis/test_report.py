"""A report says what the tables say, on the page and in W&B's JSON, whichever way the verdicts fall."""

import csv
import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure
from synthetic_results import EFFECTS, EXPERIMENT, REPOSITORY, Synthetic, write_json

from analysis import (
    collect,
    contrasts,
    figures,
    labels,
    outputs,
    push_report,
    report,
    report_content,
    report_wandb,
    study,
    style,
    table,
)
from analysis.__main__ import main
from mlm import layout
from mlm.figures import EVERY
from tests import PATIENCE_SECONDS
from tests.wandb_server import WandbServer

Make = Callable[..., Synthetic]
Rows = list[list[str]]
KEY = "0123456789abcdef" * 3
VOID = {"meta", "br", "link", "img"}
HOSTILE = "</style><script>alert(1)</script> | *a* `b` [c](javascript:alert(1)) $d$ <img src=x onerror=e> & \"'"


class Page(HTMLParser):
    """The page as a reader's browser has it: elements, their attributes, and the rows of each table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, Rows] = {}
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def values(self, name: str) -> list[str]:
        return [
            value for _, attributes in self.tags for key, value in attributes.items() if key == name and value
        ]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.rows = self.tables.setdefault(str(dict(attrs)["id"]).removeprefix("table-"), [])
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.words.append(data)
        if {"td", "th"} & set(self.open[-3:]):
            self.rows[-1][-1] += data


def page_of(made: Synthetic) -> Page:
    report.write(study.load(made.scale), EXPERIMENT)
    return Page((made.root / outputs.report(made.scale, EXPERIMENT)).read_text())


def spec_of(made: Synthetic) -> dict[str, Any]:
    content = report_content.build(study.load(made.scale), EXPERIMENT)
    return dict(json.loads(report_wandb.as_json(report_wandb.build(content, "", "mlm"))))


def texts(part: Any) -> list[str]:
    """Every piece of text in a report's JSON, in order."""
    if isinstance(part, dict):
        mine = [part[key] for key in ("text", "content") if isinstance(part.get(key), str)]
        return mine + [text for value in part.values() for text in texts(value)]
    return [text for value in part for text in texts(value)] if isinstance(part, list) else []


def pipe_tables(spec: dict[str, Any]) -> list[Rows]:
    found = [text for text in texts(spec) if text.startswith("| ")]
    return [
        [
            [html.unescape(cell.strip()) for cell in line.strip("| ").split(" | ")]
            for line in text.split("\n\n")[0].splitlines()
            if not line.startswith("| :--")
        ]
        for text in found
    ]


def grids(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [block["metadata"] for block in spec["spec"]["blocks"] if block["type"] == "panel-grid"]


@pytest.fixture
def ready(analysed: Make) -> Make:
    """Results with contrasts, and figures that cost little."""

    def build(**options: Any) -> Synthetic:
        made = analysed(**options)
        for name in EVERY:
            style.save(Figure(figsize=(2, 1)), layout.figures(made.scale, EXPERIMENT), name)
        return made

    return build


def test_every_number_is_the_tables_and_page_and_json_agree(ready: Make) -> None:
    made = ready(diverged=(("100-0-0", 3),))
    planned = study.load(made.scale)
    table.write(planned, EXPERIMENT)
    page, spec = page_of(made), spec_of(made)
    printed = ("contrasts", "features", "pairs", "tasks", "loss", "accuracy", "reach", "splits")
    tables = dict(zip(printed, pipe_tables(spec), strict=True))
    verdict_last = [(row[0], *row[2:], row[1]) for row in page.tables["contrasts"]]  # second on the page
    assert list(map(tuple, tables["contrasts"])) == verdict_last
    assert all(page.tables[name] == tables[name] for name in tables if name != "contrasts")

    stated = json.loads(made.table("contrasts.json").read_text())["contrasts"]
    assert len(tables["contrasts"]) == 1 + len(stated) == 7
    for row, result in zip(tables["contrasts"][1:], stated, strict=True):
        keys = ("difference", "low", "high", "two_level_low", "two_level_high")
        digits = labels.telling(3, *(result[key] for key in keys))
        *number, low, high = (labels.number(result[key], digits) for key in keys)
        assert row[0] == f"{labels.arm(result['arm'])} − {labels.arm(result['against'])}"
        assert row[3].lstrip("+") == number[0] and row[4] == f"{number[1]} to {number[2]}"
        assert row[5] == f"{low} to {high}"
        assert row[6] == ("7 of 8" if result["arm"] == "100-0-0" else "8")
        assert [float(p) for p in row[7:9]] == pytest.approx([result["p"], result["p_holm"]], abs=5.1e-4)
        assert row[1] == result["family"] and row[11] == result["verdict"]
        assert row[9] == labels.number(result["detectable"], digits)

    with made.table("table.csv").open() as stream:
        means = {(row["row"], row["measure"]): row for row in csv.DictReader(stream)}
    for place, measure in (
        (2, "probe.accuracy"),
        (3, "probe.ambiguous_accuracy"),
        (4, "probe.layer_0.accuracy"),
    ):
        for arm, row in zip(EFFECTS, tables["features"][1:], strict=False):
            found = means[arm, measure]
            half = (float(found["high"]) - float(found["low"])) / 2
            assert row[place] == f"{float(found['mean']):.3f} ± {half:.3f}"
    for arm, row in zip(EFFECTS, tables["loss"][1:], strict=True):
        assert row[2].startswith(f"{float(means[arm, 'test.yardstick.loss_nats']['mean']):.3f} ± ")

    selected = sum(393_000 + seed for seed in made.seeds)
    shares = dict(zip(EFFECTS, tables["splits"][1:], strict=True))
    assert shares["81-9-10"][3:6] == ["81 → 81.00", "9 → 9.00", "10 → 10.00"]
    assert shares["80-10-10"][2].startswith("15 → 14.9") and shares["80-10-10"][6] == f"{selected:,}"

    digests = sorted(made.digests.values())
    assert all(page.text.count(digest) == 1 for digest in digests)
    assert sorted(text for text in texts(spec) if text in set(digests)) == digests
    assert "seed 3 " + made.digests["100-0-0", 3] + " diverged" in page.text


@pytest.mark.parametrize(
    ("effect", "word", "sentence"),
    [
        (-0.034, "supported", "lowers mean part-of-speech accuracy (paired difference −0.0"),
        (0.034, "contradicted", "raises mean part-of-speech accuracy (paired difference +0.0"),
        (0.006, "inconclusive", "which 8 seeds cannot tell from no difference."),
    ],
)
def test_the_verdict_follows_the_results(ready: Make, effect: float, word: str, sentence: str) -> None:
    apart = 0.1 if word == "inconclusive" else 0.0
    made = ready(effects={"80-10-10": 0.0, "100-0-0": effect, "80-0-20": -0.1, "81-9-10": apart})
    stated = json.loads(made.table("contrasts.json").read_text())["contrasts"]
    assert stated[0]["verdict"] == word
    page, spec = page_of(made), spec_of(made)
    (hero,) = [attributes["class"] for tag, attributes in page.tags if tag == "section"]
    assert hero == f"verdict {word}"
    verdict = next(text for text in texts(spec) if text.startswith("**"))
    assert verdict.startswith(f"**{word.capitalize()}.** Training with 100/0/0 instead of 80/10/10")
    for said in (page.text, html.unescape(verdict)):
        assert sentence in said.replace("\u00a0", " ")
        equal = "contradicted" if apart else "equivalent"
        assert f"Of the secondary contrasts one is supported. Of the equivalences one is {equal}." in said
    assert [row[1] for row in page.tables["contrasts"][1:]] == [result["verdict"] for result in stated]


@pytest.mark.parametrize(
    ("options", "marks"),
    [
        ({"seeds": 2}, []),
        ({"seeds": 2, "evidence": False}, ["smoke, not evidence"]),
        ({"seeds": 3, "missing": (("80-0-20", 1),)}, ["partial: 20 of 21 runs measured, no verdicts"]),
        (
            {"seeds": 1, "evidence": False, "missing": tuple((arm, 0) for arm in EFFECTS)},
            ["smoke, not evidence", "partial: 0 of 7 runs measured, no verdicts"],
        ),
    ],
    ids=["finished", "smoke", "partial", "nothing yet"],
)
def test_what_is_no_finished_study_says_so_first(
    ready: Make, options: dict[str, Any], marks: list[str]
) -> None:
    made = ready(**options)
    page, spec = page_of(made), spec_of(made)
    callouts = [block for block in spec["spec"]["blocks"] if block["type"] == "callout-block"]
    assert [texts(block)[0] for block in callouts] == marks
    assert spec["spec"]["blocks"][1 : 1 + len(marks)] == callouts
    assert [a["class"] for tag, a in page.tags if a.get("class") in ("mark", "stated")] == ["mark"] * len(
        marks
    ) + ["stated"]
    for mark in marks:
        assert page.text.index(mark) < page.text.index("Question")
    for said in (page.text, " ".join(texts(spec))):
        assert "None" not in said and "nan" not in said.lower().split()


def test_names_and_texts_stay_text(ready: Make) -> None:
    made = ready(seeds=2, effects={arm: EFFECTS[arm] for arm in ("80-10-10", "100-0-0", "81-9-10")})
    path = layout.study_file(made.scale)
    planned = json.loads(path.read_text().replace('"100-0-0"', json.dumps(HOSTILE)))
    stated = planned["experiments"][EXPERIMENT]
    stated |= dict.fromkeys(("title", "question", "claim"), HOSTILE)
    stated["reference"] = f"{HOSTILE} arXiv:1810.04805"
    write_json(path, planned)
    collect.collect(study.load(made.scale), EXPERIMENT)
    contrasts.write(study.load(made.scale), EXPERIMENT)
    page, spec = page_of(made), spec_of(made)
    assert not {"script", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    assert not [value for value in page.values("href") if value.lower().startswith("javascript")]
    assert page.text.count(" ".join(HOSTILE.split())) >= 5
    assert "https://arxiv.org/abs/1810.04805" in page.values("href")
    (first, *_) = pipe_tables(spec)
    assert len({len(row) for row in first}) == 1 and first[1][0] == f"{HOSTILE} − 80/10/10"
    for text in (block["content"] for block in spec["spec"]["blocks"] if block["type"] == "markdown-block"):
        assert not re.search(r"<|\[|`|\$", text)
    assert spec["displayName"] == f"split (laptop): {HOSTILE}"[:128]


def test_prompts_are_shown_as_filled_at_the_end_with_what_is_right_and_wrong(ready: Make) -> None:
    made = ready(seeds=2, diverged=(("100-0-0", 0),), missing=(("80-0-20", 0),))
    page = page_of(made)
    assert "i" not in {tag for tag, _ in page.tags}
    raw = (made.root / outputs.report(made.scale, EXPERIMENT)).read_text()
    listed = re.findall(r'<dl class="fills">.*?</dl>', raw, re.DOTALL)[0]
    found: dict[str, list[list[tuple[str, str]]]] = {}
    for head, body in re.findall(r"<dt>(.*?)</dt>\s*<dd>(.*?)</dd>", listed, re.DOTALL):
        found[re.sub(r"<.*?>", "", head.replace("<br>", ", "))] = [
            [(kind, html.unescape(text)) for kind, text in re.findall(r'class="(\w+)">(.*?)</span>', line)]
            for line in re.findall(r"<p>(.*?)</p>", body)
        ]
    tail = [("wrong", " the"), ("context", "(<i>)& not")]
    bad = [("context", " To"), ("wrong", " </p>"), ("context", "(be) or"), *tail]
    good = [("context", " To"), ("right", " be"), ("context", " or"), *tail]
    answered = [("context", " My lord"), ("right", "!")]
    assert found == {
        "80/10/10, seed 0: 2 of 3 right": [good, answered],
        "100/0/0, seed 0: 0 of 3 right": [bad, [("context", " My lord"), ("wrong", ","), ("context", "(!)")]],
        "80/20/0, seed 0: 2 of 3 right": [good, answered],
        "0/20/80, seed 0: 1 of 3 right": [bad, answered],
        "0/0/100, seed 0: 1 of 3 right": [bad, answered],
        "81/9/10, seed 0: 2 of 3 right": [good, answered],
    }


def test_settings_are_shared_or_stand_with_the_arm_that_has_them(ready: Make) -> None:
    made = ready(seeds=2, changes={"81-9-10": {"optimizer": {"learning_rate": 1e-3}}})
    page = page_of(made)
    header, *rows = page.tables["differences"]
    split = [f"masking.split.{kind}" for kind in ("mask", "same", "random")]
    assert header == ["arm", *split, "optimizer.learning_rate"]
    assert rows[0] == ["80/10/10", "0.8", "0.1", "0.1", "0.003"]
    assert rows[-1] == ["81/9/10", "0.81", "0.09", "0.1", "0.001"]
    shared = {key for key, _ in page.tables["settings"]}
    config = json.loads((made.folder("80-10-10", 0) / "config.json").read_text())
    everything = set(pd.json_normalize(config["training"])) - {"seed"}
    assert shared.isdisjoint(header) and shared | set(header) - {"arm"} == everything


def test_runs_are_grouped_by_arm_in_the_colours_of_the_figures_and_none_is_mixed_in(ready: Make) -> None:
    made = ready(seeds=2, diverged=(("0-0-100", 1),))
    curves, final, comparer, analysis = grids(spec_of(made))
    for grid in (curves, final):
        (runs,) = grid["runSets"]
        assert runs["grouping"] == [{"section": "config", "name": f"arms.value.{EXPERIMENT}"}]
        (only,) = runs["filters"]["filters"]
        assert only["key"] == {"section": "run", "name": "name"} and only["op"] == "IN"
        assert sorted(only["value"]) == sorted(d for cell, d in made.digests.items() if cell != ("0-0-100", 1))
        key = f"{runs['id']}-config:arms.value.{EXPERIMENT}:"
        colours = {key + arm: style.line(index)[0] for index, arm in enumerate(EFFECTS)}
        assert grid["customRunColors"] == colours
    panels = [panel["config"] for panel in curves["panelBankSectionConfig"]["panels"]]
    assert "validation/yardstick/loss_nats" in {panel["metrics"][0] for panel in panels}
    assert {(p["xAxis"], p["groupAgg"], p["groupArea"]) for p in panels} == {("tokens", "mean", "stddev")}
    assert comparer["panelBankSectionConfig"]["panels"][0]["viewType"] == "Run Comparer"
    assert [run["value"] for run in comparer["runSets"][0]["filters"]["filters"]] == [
        [made.digests[arm, 0] for arm in EFFECTS]
    ]
    assert [run["value"] for run in analysis["runSets"][0]["filters"]["filters"]] == [
        "analysis",
        "laptop/split",
    ]
    (images,) = [p for p in analysis["panelBankSectionConfig"]["panels"] if p["viewType"] == "Media Browser"]
    assert images["config"]["mediaKeys"] == [f"figures/{name}" for name in EVERY]
    marked = [grid["runSets"][0]["id"] for grid in (curves, final, comparer, analysis)]
    marked += [
        p["__id__"] for g in (curves, final, comparer, analysis) for p in g["panelBankSectionConfig"]["panels"]
    ]
    assert len(set(marked)) == len(marked)


def test_the_page_needs_nothing_beside_it_and_is_the_same_bytes_twice(analysed: Make) -> None:
    made = analysed(seeds=2, evidence=False)
    planned = study.load(made.scale)
    figures.write(planned, EXPERIMENT)
    page = page_of(made)
    path = made.root / outputs.report(made.scale, EXPERIMENT)
    first = path.read_bytes()
    page_of(made)
    assert path.read_bytes() == first
    assert not {"script", "link", "img", "iframe", "object", "image", "style"} & {
        tag for tag, _ in page.tags
    } - {"style"}
    assert not page.values("src") and "@import" not in first.decode() and "url(http" not in first.decode()
    (policy,) = [a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a]
    assert policy and policy.startswith("default-src 'none'")
    ids = page.values("id")
    assert len(set(ids)) == len(ids)
    pointed = [value[1:] for value in page.values("href") if value.startswith("#")]
    pointed += re.findall(r"url\(#([^)]+)\)", first.decode()) + page.values("aria-labelledby")
    assert pointed and set(pointed) <= set(ids)
    assert sum(tag == "svg" for tag, _ in page.tags) == len(EVERY)
    named = set(re.findall(r"var\(--([\w-]+)\)", first.decode()))
    assert named <= set(re.findall(r"--([\w-]+):", first.decode()))
    beside = [value for value in page.values("href") if not value.startswith(("#", "https://"))]
    links = {(path.parent / value).resolve() for value in beside}
    runs = {(made.folder(*cell) / "run.json").resolve() for cell in made.digests}
    assert runs <= links and (made.root / "results/laptop/comparison.html").resolve() in links
    assert (made.root / "experiments/split.yaml").resolve() in links


def test_the_page_does_not_stand_on_the_wandb_modules() -> None:
    found = outputs.modules("report")
    assert "analysis.report_content" in found and "analysis.sentences" in found
    assert not {"analysis.push_report", "analysis.report_wandb", "analysis.report_panels"} & set(found)
    assert all((REPOSITORY / path).exists() for path in outputs.report_sources())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing", "--dry-run"], "no experiment is called 'nothing'; there are: split"),
        (
            ["split", "--scale", "galaxy", "--dry-run"],
            "results/galaxy/study.json: missing; no scale is called 'galaxy'",
        ),
    ],
)
def test_what_is_not_there_is_named(
    ready: Make, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    ready(seeds=1)
    with pytest.raises(SystemExit) as ended:
        main(lambda: push_report.run(arguments))
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert message in told.err and not told.out


def test_missing_tables_and_figures_are_named_with_their_remedy(ready: Make) -> None:
    made = ready(seeds=1)
    planned = study.load(made.scale)
    (layout.figures(made.scale, EXPERIMENT) / "curves.svg").unlink()
    with pytest.raises(Exception, match=r"curves\.svg: missing; run `python -m analysis figures"):
        report.write(planned, EXPERIMENT)
    made.table("contrasts.json").unlink()
    with pytest.raises(
        Exception, match=r"contrasts\.json: missing; run `python -m analysis contrasts laptop split`"
    ):
        report_content.build(planned, EXPERIMENT)


def push(made: Synthetic, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    plain = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    return subprocess.run(
        [sys.executable, "-m", "analysis.push_report", EXPERIMENT, *arguments],
        cwd=made.root, capture_output=True, text=True, check=False,
        timeout=PATIENCE_SECONDS, stdin=subprocess.DEVNULL,
        env=plain | {"PYTHONPATH": str(REPOSITORY), "HOME": str(made.root)} | environment,
    )  # fmt: skip


def said_nowhere(key: str, root: Path, done: subprocess.CompletedProcess[str]) -> bool:
    files = [path for path in root.rglob("*") if path.is_file()]
    return key not in done.stdout + done.stderr and not [p for p in files if key.encode() in p.read_bytes()]


def test_dry_run_is_the_same_bytes_twice_and_holds_no_key(ready: Make) -> None:
    made = ready(seeds=2)
    before = set(made.results.rglob("*"))
    printed = push(made, "--dry-run", WANDB_API_KEY=KEY, PYTHONHASHSEED="1", TZ="Asia/Tokyo")
    assert printed.returncode == 0, printed.stderr
    assert json.loads(printed.stdout) == spec_of(made)
    assert set(made.results.rglob("*")) == before
    written = push(made, "--dry-run", "report.json", WANDB_API_KEY=KEY, PYTHONHASHSEED="2")
    assert written.stdout == "report.json\n" and not written.stderr
    assert (made.root / "report.json").read_text() == printed.stdout
    assert said_nowhere(KEY, made.root, printed) and said_nowhere(KEY, made.root, written)


def test_a_report_loads_no_torch() -> None:
    code = (
        "import sys; from analysis import push_report, report, report_wandb; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0


class Reports(WandbServer):
    """The server, which also lists its reports."""

    def on_ProjectViews(self, said: dict[str, Any]) -> dict[str, Any]:
        mine = [one for one in self.reports.values() if one["project"]["name"] == said["project"]]
        edges = [{"node": {"user": None, **one}, "cursor": one["id"]} for one in mine]
        listed = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
        return {"project": {"allViews": listed} if said["project"] in self.projects else None}


def test_a_report_is_pushed_and_replaced_not_doubled(ready: Make) -> None:
    made = ready(seeds=2)
    with Reports(key=KEY) as server:
        told = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}
        for entity in ("", "team"):
            done = push(made, *(["--entity", entity] if entity else []), "--project", "words", **told)
            assert done.returncode == 0, done.stderr
            assert said_nowhere(KEY, made.root, done)
    assert {asked.partition(":")[0] for asked in server.unknown} == {"GET /"}  # whether it is there
    ((name, saved),) = server.reports.items()
    assert saved["project"] | {"id": ""} == {"id": "", "name": "words", "entityName": "team"}
    assert json.loads(saved["spec"]) == spec_of(made)["spec"]
    slug = "split-laptop-Synthetic-what-stands-in-the-place-of-a-selected-token"
    assert done.stdout == f"{server.url}/team/words/reports/{slug}--{name.rstrip('=')}\n"


def test_a_push_that_cannot_be_is_told_in_a_line(ready: Make) -> None:
    made = ready(seeds=1)
    wrong = "f" * 40
    with Reports(key=KEY) as server, Reports(key=KEY, entity="") as nobody, ThreadPoolExecutor() as pool:
        at, gone = {"WANDB_BASE_URL": server.url}, {"WANDB_BASE_URL": "http://127.0.0.1:9"}
        started = [
            (pool.submit(push, made, **variables), message)
            for variables, message in (
                (at, "No API key configured"),
                (at | {"WANDB_API_KEY": wrong}, "check WANDB_API_KEY, --entity and --project"),
                ({"WANDB_BASE_URL": nobody.url, "WANDB_API_KEY": KEY}, "--entity: none given"),
                (gone | {"WANDB_API_KEY": KEY}, "cannot be reached"),
            )
        ]
        cases = [(pushed.result(), message) for pushed, message in started]
    for done, message in cases:
        assert done.returncode == 2, done.stderr
        # On a slow machine matplotlib may say first that it looks for fonts.
        (told,) = [line for line in done.stderr.splitlines() if not line.startswith("Matplotlib is building")]
        assert told.startswith("error: ") and message in told and "Traceback" not in done.stderr
        assert not done.stdout
        assert said_nowhere(KEY, made.root, done) and said_nowhere(wrong, made.root, done)
    assert not server.reports and not nobody.reports
