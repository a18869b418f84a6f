"""docs/results/SCALE/README.md: what was found and what it cost, from the folders beside it."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from pydantic import ValidationError

from analysis import codes, labels, marks, multiplicity, verdicts
from analysis.manuscript_markdown import escaped, listed
from analysis.printed import DASH
from analysis.report_tables import TWO_LEVEL
from analysis.study import problems
from mlm import layout
from mlm.errors import Damaged
from mlm.experiment import TUNE
from mlm.files import read_json, write_atomically
from mlm.yaml_file import Strict

TEMPLATES = Path(__file__).parent / "templates"
FACTS, RUNS, CONTRASTS = "facts.json", "runs.csv", "contrasts.csv"
REMARK = "remark.md"
"""What must be known of an experiment's numbers; written by hand, gone when it is published anew."""
RUN_COLUMNS = ("arm", "seed", "run", "status", "tokens", "flops", "training_seconds", "wall_seconds", "commit")
CHANGED = " with changes"
"""What may follow a commit: the tree had uncommitted changes."""


class Picture(Strict):
    """A published figure."""

    file: str
    caption: str
    note: str
    """Why it is no SVG; empty where it is one."""


class Facts(Strict):
    """facts.json: what the page says of an experiment, numbers and words as its report has them."""

    experiment: str
    title: str
    question: str
    claim: str
    """Empty, and `reference` and `reckoned` too, where nothing is tested: of trials of learning rates."""
    reference: str
    reckoned: str
    """Its cost, as its file has it."""
    marks: list[str]
    """What must be seen first; none where the study is evidence."""
    code: str
    """Digest of the code that trained its runs, by the bits of its golden runs."""
    accepted: list[str] = []
    """Why runs are kept whose code gives other bits by now."""
    machine: str
    unit: str
    """Whose minutes those of training are: a core's or a device's."""
    findings: list[dict[str, str]] = []
    """Each contrast: column -> cell; the columns of the report and `measure`."""
    restricted: str = ""
    """What is to be known of contrasts within the first tokens; empty where there are none."""
    stated: str = ""
    """What is to be known of when contrasts were stated; empty where all were before the runs."""
    primary: list[str] = []
    """The primary contrast in words."""
    tallies: list[str] = []
    """How the verdicts of the other families fell; of trials of learning rates, each arm's best."""
    figures: list[Picture]
    files: list[str]
    """All that was published of it, but for facts.json."""


@dataclass(frozen=True)
class Cost:
    """What runs took, each counted once."""

    runs: int
    tokens: int
    minutes: float
    """Of training, added up over the runs."""
    longest_seconds: float
    """Of a run, from its start to its end; of one that was interrupted, its last start or all its training."""

    @classmethod
    def of(cls, table: pd.DataFrame) -> "Cost":
        """The cost of the rows of one runs.csv or several."""
        once = table.drop_duplicates("run")
        seconds = float(once["training_seconds"].sum())
        longest = float(once[["training_seconds", "wall_seconds"]].to_numpy(dtype=float).max())
        return cls(len(once), int(once["tokens"].sum()), seconds / 60, longest)


class Published:
    """An experiment as it lies under docs/results.

    Raises:
        Damaged: its facts.json or runs.csv is not what was published.
    """

    def __init__(self, place: Path) -> None:
        self.facts, self.runs = load(place), _runs(place / RUNS)
        remark = place / REMARK
        self.remark = " ".join(remark.read_text(encoding="utf-8").split()) if remark.exists() else ""
        self.cost = Cost.of(self.runs)
        self.primary_p = _primary_p(place / CONTRASTS) if self.tested else []
        """Of its primary contrasts, by themselves; None where one was not tested."""
        self.commits = {str(commit): mine["run"].nunique() for commit, mine in self.runs.groupby("commit")}
        self.seeds = sorted({int(seed) for seed in self.runs["seed"]})
        self.budgets = int(self.runs["tokens"].min()), int(self.runs["tokens"].max())
        """Tokens of the shortest and of the longest run."""

    @property
    def tested(self) -> bool:
        """Whether it has contrasts; trials of learning rates have none."""
        return not self.facts.experiment.endswith(TUNE)


def load(place: Path) -> Facts:
    """The facts.json of a published experiment.

    Raises:
        Damaged: it is missing, or not what was published.
    """
    path, remedy = place / FACTS, f"delete {place} and publish {place.name} again"
    try:
        facts = Facts.model_validate(read_json(path, remedy))
    except ValidationError as error:
        raise Damaged(*(f"{path}: {problem}; {remedy}" for problem in problems(error))) from None
    if facts.experiment != place.name:
        raise Damaged(f"{path}: experiment: is {facts.experiment!r}, in the folder of {place.name}; {remedy}")
    return facts


def _runs(path: Path) -> pd.DataFrame:
    return _table(path, RUN_COLUMNS, dtype=dict.fromkeys(("arm", "run", "status", "commit"), str))


def _primary_p(path: Path) -> list[float | None]:
    table = _table(path, ("family", "p"), dtype={"family": str}, na_values={"p": [""]})
    return [None if pd.isna(p) else float(p) for p in table.loc[table["family"] == "primary", "p"]]


def _table(path: Path, columns: Sequence[str], **read: Any) -> pd.DataFrame:
    try:
        table: pd.DataFrame = pd.read_csv(path, keep_default_na=False, **read)[list(columns)]
    except (OSError, ValueError, KeyError) as error:
        remedy = f"delete {path.parent} and publish {path.parent.name} again"
        raise Damaged(f"{path}: missing or damaged ({error}); {remedy}") from None
    return table


def write(place: Path) -> Path:
    """Write the page of everything that is published of a scale.

    Args:
        place: the scale's folder, with one for each experiment.
    """
    write_atomically(place / "README.md", render(read(place), place))
    return place / "README.md"


def read(place: Path) -> list[Published]:
    """Everything that is published of a scale, by name.

    Raises:
        Damaged: something is not what was published.
    """
    return [Published(path.parent) for path in sorted(place.glob(f"*/{FACTS}"))]


def render(published: Sequence[Published], place: Path) -> str:
    """The page, in Markdown as code forges show it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown, of this project's own words
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"escaped": escaped, "cell": _cell, "number": labels.number, "short": _short}
    stated = _whose((one.facts.stated, one) for one in published if one.facts.stated)
    experiments = Path(os.path.relpath(layout.EXPERIMENTS.resolve(), place.resolve())).as_posix()
    return environment.get_template("results.md.j2").render(
        scale=place.name,
        published=published,
        experiments=experiments,
        reading=next((one.facts.figures[0].caption for one in published if one.tested), ""),
        commits=sorted({commit for one in published for commit in one.commits}),
        changed=any(CHANGED in commit for one in published for commit in one.commits),
        known=[*dict.fromkeys(one.facts.restricted for one in published if one.facts.restricted), *stated],
        two_level=TWO_LEVEL if any(TWO_LEVEL in row for one in published for row in one.facts.findings) else "",
        marks=list(_whose((mark, one) for one in published for mark in one.facts.marks)),
        remarks=[f"`{one.facts.experiment}`" for one in published if one.remark],
        mixed=any(mark.startswith(codes.MIXED) for one in published for mark in one.facts.marks),
        cost=Cost.of(pd.concat([one.runs for one in published])),
        units=listed(sorted({one.facts.unit for one in published}), "or"),
        others=lambda one: listed([f"`{name}`" for name in _sharing(one, published)], "and"),
        own=lambda one: one.cost.runs - len(_shared(one, published)),
        seeds=_seeds,
        held=_held,
        primaries=_primaries(published),
        file_of=lambda one: one.facts.experiment.removesuffix(TUNE),
        meanings=verdicts.VERDICTS,
        verdicts={finding["verdict"] for one in published for finding in one.facts.findings},
    )


def _primaries(published: Sequence[Published]) -> list[tuple[str, str, str]]:
    """Experiment, p, and p corrected over the primary contrasts of all experiments, of each such contrast."""
    told = [(one.facts.experiment, p) for one in published for p in one.primary_p]
    alone = [p for _, p in told]
    words = [
        [DASH if p is None else labels.p_value(p).removeprefix("= ") for p in column]
        for column in (alone, multiplicity.holm_of_stated(alone))
    ]
    return list(zip([name for name, _ in told], *words, strict=True))


def _whose(told: Iterable[tuple[str, Published]]) -> Iterator[str]:
    """What is to be known of experiments, each line once, after the names of those that it is of."""
    found: dict[str, list[str]] = {}
    for words, one in told:
        found.setdefault(words, []).append(f"`{one.facts.experiment}`")
    for words, names in found.items():
        yield words if words == marks.SMOKE else f"{listed(names, 'and')}: {words}"


def _held(finding: dict[str, str]) -> str:
    """The Holm p that a verdict goes by; a dash where an older version kept only that of the other test.

    >>> _held({"family": "equivalence", "verdict": "contradicted", "Holm p": "0.992"})
    '—'
    """
    p = finding["Holm p"]
    beyond = (finding["family"], finding["verdict"]) == ("equivalence", "contradicted")
    return DASH if beyond and float(p.removeprefix("< ")) >= verdicts.LEVEL else p


def _shared(one: Published, published: Sequence[Published]) -> set[str]:
    return {run for other in published if other is not one for run in _common(one, other)}


def _sharing(one: Published, published: Sequence[Published]) -> list[str]:
    return [other.facts.experiment for other in published if other is not one and _common(one, other)]


def _common(one: Published, other: Published) -> set[str]:
    return {*one.runs["run"]} & {*other.runs["run"]}


def _cell(text: str) -> str:
    return escaped(text).replace("|", "\\|")


def _short(commit: str) -> str:
    """A commit in as many digits as a reader needs.

    >>> _short("91d895d12e7098c54fd63ed6312a53aa9d1a4975 with changes")
    '`91d895d12e` with changes'
    """
    name, _, rest = commit.partition(" ")
    return f"`{name[:10]}` {rest}".strip() if len(name) == 40 else commit


def _seeds(seeds: Sequence[int]) -> str:
    """Seeds in few words.

    >>> _seeds([0, 1, 2, 3]), _seeds([100, 102])
    ('0 to 3', '100 and 102')
    """
    if len(seeds) > 2 and list(seeds) == [*range(seeds[0], seeds[-1] + 1)]:
        return f"{seeds[0]} to {seeds[-1]}"
    return listed([str(seed) for seed in seeds], "and")
