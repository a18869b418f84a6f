"""Where a report's results come from, and where to read on: code, data, settings, links."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from analysis import codes, labels, outputs, runs, setup, tidy
from analysis.quote import Quoter
from analysis.study import Study
from mlm import layout
from mlm.files import file_sha256, read_json

NOTHING = "none yet"
Fact = tuple[str, str]
"""What, and its value."""


@dataclass(frozen=True)
class Link:
    """Where to read on; `target` is a web address, or a path from the root of the study."""

    text: str
    target: str


@dataclass(frozen=True)
class Code:
    """A name as it is typed."""

    text: str


def size(name: str, quote: Quoter, corpus: runs.Corpus | None) -> Iterator[Fact]:
    """How large the experiment is."""

    def number(key: str) -> str:
        return quote.num(f"{name}.{key}")

    yield "arms × seeds", f"{number('setup.arms')} × {number('setup.seeds')}"
    lost = f", {number('runs.diverged')} diverged" if quote.entry(f"{name}.runs.diverged")["value"] else ""
    yield "runs", f"{number('runs.finished')} of {number('setup.runs')} finished{lost}"
    for key, title, unit in (
        ("setup.budget_tokens", "budget", "tokens a run"),
        ("setup.parameters", "model", "parameters"),
    ):
        if quote.has(f"{name}.{key}"):
            yield title, f"{number(key)} {unit}"
    if corpus:
        yield "corpus", corpus.title


def settings(study: Study, name: str) -> Iterator[Fact]:
    """What all runs share."""
    for key, value in setup.shared(study, name).items():
        yield key, setting(value)


def setting(value: object) -> str:
    """A value of the configuration as a reader sees it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return labels.number(value, 0 if isinstance(value, int) else None)
    return "none" if value is None else str(value)


def provenance(study: Study, name: str, collected: tidy.Collected) -> Iterator[Fact]:
    """Commits, code, data and tables that the report stands on, by their hashes."""
    cells = study.cells(name)
    records = [record for cell in cells if (record := runs.run(cell.digest))]
    yield "git commit of the runs", _together(setup.commits(study, name))
    yield "training code", collected.code or NOTHING
    yield from ((f"runs of code {code}", mine) for code, mine in codes.listed(collected))
    for change in study.experiment(name).accepted:
        yield "accepted change of its bits", f"{change.why} ({', '.join(change.arms)})"
    data = [runs.config(cell.digest)["data"] for cell in cells]
    for kind in ("corpus", "vocabulary", "shards"):
        yield kind, _together(one[kind] for one in data)
    hashes = [fact for record in records for fact in _inputs(record.digest)]
    for what in sorted({what for what, _ in hashes}):
        yield f"SHA-256 of the {what}", _together(value for key, value in hashes if key == what)
    yield "measured as", _together(study.experiment(name).measure_files.values())
    for table in ("results.csv", "curves.csv", "contrasts.json"):
        yield f"SHA-256 of {table}", file_sha256(layout.tables(study.scale, name) / table)
    yield "computed on", _together(record.device for record in records)
    yield "processor", _together(str(record.machine or "not recorded") for record in records)
    found = setup.versions(study, name)
    yield "versions", ", ".join(f"{package} {version}" for package, version in found.items()) or NOTHING


def _inputs(digest: str) -> Iterator[Fact]:
    path = runs.folder(digest) / "run.json"
    for key, value in read_json(path, f"delete {path.parent} and train again").get("inputs", {}).items():
        what = key.removesuffix("_sha256")
        if isinstance(value, dict):
            yield from ((f"{what}, {part}", str(sha256)) for part, sha256 in value.items())
        else:
            yield what, str(value)


def _together(values: Iterable[str]) -> str:
    return ", ".join(sorted(set(values))) or NOTHING


def reference(text: str) -> Iterator[str | Link | Code]:
    """A reference with its arXiv numbers as links, and what stands between backticks as code.

    >>> list(reference("Devlin 2018 (arXiv 1810.04805), C.2"))
    ['Devlin 2018 (', Link(text='arXiv 1810.04805', target='https://arxiv.org/abs/1810.04805'), '), C.2']
    >>> list(reference("The experiment `credit`."))
    ['The experiment ', Code(text='credit'), '.']
    """
    for i, part in enumerate(re.split(r"(arXiv[\s:]*\d{4}\.\d{4,5}|`[^`]+`)", text)):
        if part.startswith("`") and i % 2:
            yield Code(part.strip("`"))
        elif i % 2:
            yield Link(part, f"https://arxiv.org/abs/{part[-10:].lstrip(': ')}")
        elif part:
            yield part


def links(scale: str, name: str) -> tuple[Link, ...]:
    """What lies beside the report; the interactive curves first."""
    place = layout.tables(scale, name)
    paper = Link("Paper", (outputs.paper(scale) / "paper.pdf").as_posix())
    return (
        Link("Interactive curves", outputs.comparison(scale).as_posix()),
        *(() if scale == outputs.partial(scale) else (paper,)),
        Link("Contrasts with every pair", (place / "contrasts.json").as_posix()),
        Link("Results, one row a measure", (place / "results.csv").as_posix()),
        Link("Curves, one row a point", (place / "curves.csv").as_posix()),
        Link("The experiment's file", f"experiments/{name}.yaml"),
        Link("How an experiment is stated", "docs/experiments.md"),
        Link("What is reproducible where", "docs/reproducibility.md"),
    )
