"""What each command writes, and which code and sources decide it. Light: the Snakefile imports this.

>>> files("contrasts", "laptop", "split")
['results/laptop/tables/split/contrasts.csv', 'results/laptop/tables/split/contrasts.json']
"""

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mlm.figures import EVERY, KINDS
from mlm.layout import RESULTS, figures, tables

if TYPE_CHECKING:
    from mlm.experiment import Experiment

PAPER = Path("paper")
PROBE_FILE = Path("experiments/probes/brown.yaml")
ROOT = Path(__file__).parent.parent

AFTER: dict[str, tuple[str, ...]] = {
    "collect": (),
    "tune": ("collect",),
    "contrasts": ("collect",),
    "table": ("collect", "contrasts"),
    "figures": ("collect", "contrasts"),
    "numbers": ("collect", "contrasts"),
    "paper": ("numbers", "table", "figures"),
    "comparison": ("collect", "contrasts"),
    "report": ("collect", "contrasts", "figures"),
}
"""Commands, each with those whose files it reads."""
FORMATS = ("svg", "pdf", "png")
PAPER_SOURCES = ("paper.md", "experiment.md", "paper.lua", "paper.typ.tpl", "refs.bib", "published.yaml")
"""Files under paper/ that decide the paper beside the numbers."""
COMPARISON = Path("analysis/templates/comparison")
COMPARISON_SOURCES = ("page.html.j2", "page.css", "choice.js", "arms.js", "chart.js", "tables.js", "page.js")
"""Files there that decide the comparison page beside the tables; the scripts in the order they run in."""
REPORT_SOURCES = ("report.html.j2", "report.css")
"""Files under analysis/templates/ that decide an experiment's report page beside tables and figures."""
SHOWN = {
    "curves.svg": "learning curves",
    "contrasts.svg": "contrasts",
    "layers.svg": "layers",
    "realised.svg": "asked for and drawn",
    "pareto.svg": "loss for what is spent",
    "seconds.svg": "loss for seconds",
    "arms.svg": "arms",
    "dose.svg": "by dose",
    "over.svg": "while training",
    "matrix.svg": "trained and judged",
    "leaving.svg": "leaving the plateau",
    "radius.svg": "context radius",
    "rates.svg": "learning rates",
    "table.csv": "tables",
    "report.html": "report",
    "comparison.html": "curves to explore",
    "paper.pdf": "paper",
}
"""Files that `snakemake --report` shows -> their labels; figures, pages and paper open in it."""


def numbers_file(scale: str) -> Path:
    """Every number the paper may quote."""
    return RESULTS / scale / "numbers.json"


def paper(scale: str) -> Path:
    """Folder of the paper."""
    return RESULTS / scale / "paper"


def partial(scale: str) -> str:
    """Name of the place, beside what the pipeline makes, of what there is while runs go on."""
    return f"{whole(scale)}/partial"


def whole(scale: str) -> str:
    """Name of the scale that a place is of.

    >>> whole(partial("laptop")), whole("laptop")
    ('laptop', 'laptop')
    """
    return scale.removesuffix("/partial")


def arxiv(scale: str) -> Path:
    """Folder of the paper's LaTeX."""
    return paper(scale) / "arxiv"


def comparison(scale: str) -> Path:
    """The page that compares the curves of a scale."""
    return RESULTS / scale / "comparison.html"


def report(scale: str, experiment: str) -> Path:
    """An experiment's report as one page."""
    return RESULTS / scale / "reports" / f"{experiment}.html"


def files(command: str, scale: str, experiment: str = "", own: Iterable[str] = ()) -> list[str]:
    """Everything a command writes, as paths from the root of the study.

    Args:
        command: a key of `AFTER`.
        scale: name of the scale, a folder under results/.
        experiment: name of the experiment; `numbers`, `paper` and `comparison` are the scale's and need none.
        own: names of the figures made for the experiment's question.
    """
    there = tables(scale, experiment)
    found = {
        "collect": [there / name for name in ("results.csv", "curves.csv", "collected.json", "seconds.csv")],
        "tune": [there / "rates.csv", *(figures(scale, experiment) / f"rates.{kind}" for kind in FORMATS)],
        "contrasts": [there / "contrasts.csv", there / "contrasts.json"],
        "table": [there / f"table.{kind}" for kind in ("csv", "md", "tex")],
        "figures": [
            figures(scale, experiment) / f"{name}.{kind}" for name in (*EVERY, *own) for kind in FORMATS
        ],
        "numbers": [numbers_file(scale)],
        "paper": [paper(scale) / f"paper.{kind}" for kind in ("pdf", "md", "typ")],
        "comparison": [comparison(scale)],
        "report": [report(scale, experiment)],
    }
    return [path.as_posix() for path in found[command]]


def own(scale: str, name: str, experiment: "Experiment") -> Iterator[tuple[str, str]]:
    """Kind with its ending, and path, of the figures made for an experiment's question."""
    fixed = files("figures", scale, name)
    for one in experiment.figures:
        for path in files("figures", scale, name, [one.stem]):
            if path not in fixed:
                yield one.kind + Path(path).suffix, path


def results(scale: str, experiment: str) -> list[str]:
    """The files of an experiment that later steps read their numbers from; contrasts.json last."""
    names = ("collected.json", "results.csv", "curves.csv", "contrasts.json")
    return [(tables(scale, experiment) / name).as_posix() for name in names]


def modules(command: str) -> tuple[str, ...]:
    """Modules of this project that a command stands on, found by following the imports at their tops.

    Those of the commands before it are among them: where a start ends between the two, the next one would not
    know otherwise that the files in between are new. Give them to `mlm.identity.code_hash`: an edit to one of
    them makes the command's outputs old.
    """
    found: set[str] = {module for before in AFTER[command] for module in modules(before)}
    ahead = [f"analysis.{command}"]
    while ahead:
        module = ahead.pop()
        if module not in found:
            found.add(module)
            ahead += _imported(module)
    return tuple(sorted(found))


def sources() -> list[str]:
    """Files of the repository, code apart, that decide the paper: make them inputs of its rule."""
    remarks = sorted(path.as_posix() for path in (PAPER / "experiments").glob("*.md"))
    own = ((PAPER / name).as_posix() for name in PAPER_SOURCES)
    return [*own, *remarks, *_captions(), PROBE_FILE.as_posix()]


def comparison_sources() -> list[str]:
    """Files of the repository, code apart, that decide the comparison page."""
    return [(COMPARISON / name).as_posix() for name in COMPARISON_SOURCES]


def report_sources() -> list[str]:
    """Files of the repository, code apart, that decide a report page."""
    return [*_captions(), *(f"analysis/templates/{name}" for name in REPORT_SOURCES)]


def _captions() -> list[str]:
    return sorted(f"analysis/captions/{name}.rst" for name in (*EVERY, *KINDS))


def _source(module: str) -> Path:
    return ROOT / f"{module.replace('.', '/')}.py"


@functools.cache
def _imported(module: str) -> tuple[str, ...]:
    tree = ast.parse(_source(module).read_text(encoding="utf-8"))
    named: list[str] = []
    for node in tree.body:  # what a function imports is for plug-ins, or for the eyes of a type checker
        if isinstance(node, ast.ImportFrom) and node.module:
            named += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            named += [alias.name for alias in node.names]
    return tuple(name for name in named if name.split(".")[0] in ("analysis", "mlm") and _source(name).exists())
