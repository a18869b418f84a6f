"""Comparison pages of synthetic results, and how to read them without the code that made them."""

import csv
import json
import statistics
from collections import defaultdict
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import synthetic_results
from scipy.stats import t
from synthetic_results import EFFECTS, Synthetic

from analysis import collect, comparison, contrasts, outputs, study

Make = Callable[..., Synthetic]
ARMS = ("80-10-10", "100-0-0", "0-20-80")
SMALL = {arm: EFFECTS[arm] for arm in ARMS}
LOSS = "validation.yardstick.loss_nats"
HOSTILE = "</script><img src=x onerror=window.broken=1>'\"&amp;<b>%{x}</b>\u2028{{ 7*7 }} Ünï–測試"


class Reader(HTMLParser):
    """What a browser would find: scripts by type, attributes, styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = defaultdict(list)
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self._inside = f"{tag} {dict(attributes).get('type', '')}".strip()
        if tag in ("script", "style"):
            self.texts[self._inside].append("")

    def handle_data(self, data: str) -> None:
        if self._inside.startswith(("script", "style")):
            self.texts[self._inside][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    @property
    def shown(self) -> dict[str, Any]:
        return json.loads(self.texts["script application/json"][0])


def build(made: Synthetic) -> Path:
    planned = study.load(made.scale)
    comparison.write(planned, list(planned.experiments))
    return made.root / outputs.comparison(made.scale)


def table(made: Synthetic, name: str) -> list[dict[str, str]]:
    with made.table(name).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def t_interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and 95 % interval without the code that the page was made with."""
    mean, n = statistics.fmean(values), len(values)
    half = float(t.interval(0.95, n - 1)[1]) * statistics.stdev(values) / n**0.5
    return mean, mean - half, mean + half


def hostile(make: Make, monkeypatch: pytest.MonkeyPatch) -> Synthetic:
    """Results whose experiment, arm and title are called what no file name should be."""
    name = HOSTILE.replace("/", "")
    monkeypatch.setitem(synthetic_results.SPLITS, HOSTILE, (1.0, 0.0, 0.0))
    monkeypatch.setattr(synthetic_results, "EXPERIMENT", name)
    made = make(seeds=2, effects={"80-10-10": 0.0, HOSTILE: -0.03})
    path = made.results / made.scale / "study.json"
    content = json.loads(path.read_text())
    content["experiments"][name] |= {"title": HOSTILE, "question": HOSTILE, "primary_measure": LOSS}
    path.write_text(json.dumps(content))
    planned = study.load(made.scale)
    collect.collect(planned, name)
    contrasts.write(planned, name)
    return made
