"""The comparison page in Debian's Chromium, without a network: what is drawn, chosen and read."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator

import pytest
from chromium import FOUND, Page, chromium
from pages import ARMS, HOSTILE, LOSS, SMALL, Make, Reader, build, hostile, t_interval, table
from synthetic_results import EXPERIMENT

from analysis import labels


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if FOUND is None:
        pytest.skip("the package chromium is missing: apt-get install chromium")
    with chromium(tmp_path_factory.mktemp("chromium")) as page:
        yield page
        assert page.complaints == []
        assert {request.split(":")[0] for request in page.requests} <= {"file", "data", "blob"}


def cells(page: Page, which: str, arm: str) -> dict[str, str]:
    """Column -> text of an arm's row in a table of the page."""
    key = json.dumps(f"{EXPERIMENT}/{arm}")
    return page.value(
        f"Object.fromEntries([...document.querySelectorAll('#{which} tr')].find(r => r.dataset.arm === {key})"
        ".querySelectorAll('td').values().map(c => [c.classList[0], c.textContent]))"
    )


def said(values: list[float], digits: int = 3) -> list[str]:
    """Mean and interval as the page writes them."""
    mean, low, high = (labels.number(x, digits) for x in t_interval(values))
    return [mean, f"[{low}, {high}]"]


def rgb(colour: str) -> str:
    return f"rgb({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))})"


LINES = "[...document.querySelectorAll('#chart .js-line')].filter(l => parseFloat(l.style.strokeWidth))"
HOVER = "document.querySelector('#chart .hoverlayer').textContent"


def choose(page: Page, element: str, value: str) -> None:
    """Choose in a list, as a hand would: the browser's own menu is out of the page's reach."""
    page.value(
        f"(list => {{ list.value = {json.dumps(value)}; list.dispatchEvent(new Event('change')); }})"
        f"(document.getElementById({json.dumps(element)}))"
    )


def drawn(page: Page) -> list[str]:
    """Colours of the curves that have a way to go in the window."""
    return page.value(f"{LINES}.filter(l => l.getTotalLength() > 50).map(l => l.style.stroke)")


def test_a_browser_shows_toggles_and_reads_back(analysed: Make, browser: Page) -> None:
    made = analysed(seeds=4, effects=SMALL)
    browser.size(1200, 900)
    browser.media("light")
    browser.open(build(made).as_uri())
    curves: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for row in table(made, "curves.csv"):
        curves[row["arm"], row["measure"], int(row["tokens"])].append(float(row["value"]))
    tokens = sorted({at for _, measure, at in curves if measure == LOSS})
    shown = Reader(build(made).read_text(encoding="utf-8")).shown["experiments"][0]
    colours = {arm["name"]: rgb(arm["colour"]) for arm in shown["arms"]}

    # Curves and bands are there, in the house's colours, and the table has their ends.
    browser.until(f"{LINES}.length === 3")
    assert drawn(browser) == list(colours.values())
    assert browser.value("document.querySelectorAll('#chart .fills path, #chart .js-fill').length") >= 3
    for arm in ARMS:
        found = cells(browser, "ends", arm)
        assert [found["mean"], found["interval"]] == said(curves[arm, LOSS, tokens[-1]])
        assert found["n"] == "4"

    # Pointing at a moment reads the values of every arm.
    place = browser.box("#chart .nsewdrag")
    at = browser.value(f"document.getElementById('chart')._fullLayout.xaxis.l2p({tokens[5]})")
    browser.move(place["x"] + at, place["y"] + place["height"] / 2)
    browser.until(f"{HOVER}.includes('{tokens[5]:,} tokens')")
    for arm in ARMS:
        mean, bounds = said(curves[arm, LOSS, tokens[5]])
        assert f"{labels.arm(arm)}  {mean}  {bounds}  n = 4" in browser.value(HOVER).replace("\xa0", " ")

    # An arm goes and comes back.
    browser.click(f'.chip[data-arm="{EXPERIMENT}/100-0-0"]')
    browser.until(f"{LINES}.length === 2")
    assert drawn(browser) == [colours["80-10-10"], colours["0-20-80"]]
    assert "off=split%2F100-0-0" in browser.value("location.hash")
    assert browser.value("document.querySelectorAll('#ends tbody tr').length") == 2
    browser.click(f'.chip[data-arm="{EXPERIMENT}/100-0-0"]')
    browser.until(f"{LINES}.length === 3")

    # Another measure and another axis, by the keyboard as well; the chart follows.
    choose(browser, "measure", "train.loss_nats")
    end = max(at for _, measure, at in curves if measure == "train.loss_nats")
    assert cells(browser, "ends", "0-20-80")["mean"] == said(curves["0-20-80", "train.loss_nats", end])[0]
    browser.value("document.querySelector('[value=tokens]').focus()")
    browser.press("ArrowRight", 39)
    browser.until("document.getElementById('chart').layout.xaxis.title.text === 'training FLOPs'")
    flops = shown["arms"][-1]["curves"]["train.loss_nats"]["flops"]
    assert browser.value("document.getElementById('chart').data.at(-1).x") == flops
    browser.value("document.getElementById('chart').focus()")
    browser.press("ArrowLeft", 37)
    read = browser.value("document.getElementById('readout').textContent")
    assert read.startswith(f"{end:,} training tokens: 80/10/10  ")
    assert said(curves["80-10-10", "train.loss_nats", end])[0] in read

    # A view can be linked.
    address = browser.value("location.href")
    assert "x=flops" in address and "measure=train.loss_nats" in address
    browser.open("about:blank#")
    browser.ask("Page.navigate", url=address + "&seeds=1&log=1")
    browser.until("document.getElementById('chart')?.layout?.xaxis?.type === 'log'")
    browser.until(f"{LINES}.length === 3 + 3 * 4")


def test_a_browser_says_that_there_is_nothing_yet(analysed: Make, browser: Page) -> None:
    made = analysed(
        seeds=2, effects=SMALL, evidence=False, missing=tuple((a, s) for a in SMALL for s in (0, 1))
    )
    browser.open(build(made).as_uri())
    browser.until("document.querySelector('#chart .annotation')?.textContent === 'No curves yet'")
    marks = browser.value("[...document.querySelectorAll('.mark')].map(m => m.textContent)")
    assert marks == ["smoke, not evidence", "partial: 0 of 6 runs measured, no verdicts"]


def test_a_click_on_a_curve_leads_to_its_runs(analysed: Make, browser: Page) -> None:
    made = analysed(seeds=4, effects=SMALL)
    browser.size(1200, 900)
    browser.open(build(made).as_uri())
    browser.until(f"{LINES}.length === 3")
    place = browser.box("#chart .nsewdrag")
    x, y = browser.value(
        "(({data, _fullLayout: l}) => { const t = data.find(t => t.meta === 'split/0-20-80' && t.text);"
        "return [l.xaxis.l2p(t.x[6]), l.yaxis.l2p(t.y[6])] })(document.getElementById('chart'))"
    )
    browser.move(place["x"] + x + 3, place["y"] + y + 3)
    browser.until(f"{HOVER}.includes('tokens')")
    browser.click_at(place["x"] + x, place["y"] + y)
    browser.until("document.querySelector('details[open]')")
    links = browser.value("[...document.querySelectorAll('details[open] a')].map(a => a.href)")
    assert links == [f"{(made.folder('0-20-80', seed)).as_uri()}/" for seed in range(4)]


def test_a_browser_takes_any_name_for_text(make: Make, monkeypatch: pytest.MonkeyPatch, browser: Page) -> None:
    made = hostile(make, monkeypatch)
    browser.open(build(made).as_uri())
    browser.until(f"{LINES}.length === 2")
    assert browser.value("[...document.querySelectorAll('.chip')].at(-1).textContent") == HOSTILE
    assert browser.value("document.querySelector('#arms legend').textContent") == HOSTILE
    browser.value("document.getElementById('chart').focus()")
    browser.press("ArrowRight", 39)
    browser.until(HOVER)
    assert HOSTILE.replace("\u2028", " ") in re.sub(r"[\u2028\s]", " ", browser.value(HOVER))
    assert browser.value("window.broken ?? document.querySelectorAll('img').length") == 0


def test_dark_print_and_a_phone(analysed: Make, browser: Page) -> None:
    made = analysed(seeds=4, effects=SMALL)
    page = build(made)
    arm = Reader(page.read_text(encoding="utf-8")).shown["experiments"][0]["arms"][0]
    browser.size(390, 800, mobile=True)
    browser.media("dark")
    browser.open(page.as_uri())
    browser.until(f"{LINES}.length === 3")
    assert drawn(browser)[0] == rgb(arm["dark"])
    assert browser.value("document.documentElement.scrollWidth") <= 390
    browser.value("window.dispatchEvent(new Event('beforeprint'))")
    assert drawn(browser)[0] == rgb(arm["colour"])
    browser.value("window.dispatchEvent(new Event('afterprint'))")
    assert drawn(browser)[0] == rgb(arm["dark"])
