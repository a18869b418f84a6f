"""A report on an experiment for Weights & Biases: text from the results, panels over the runs that are there.

Building needs no server. Everything that the library would name at random has a name of its own here,
so the same results give the same report.
"""

import json
import re
from typing import Any

import wandb_workspaces.reports.v2.interface as wr  # what `reports.v2` exports, with its types

from analysis import report_panels
from analysis.manuscript_markdown import pipes
from analysis.printed import Panel
from analysis.report_content import Arm, Content, emphasised
from analysis.report_origin import Code, Link
from mlm import layout

TITLE_LIMIT = 128
MARKDOWN = set("\\`*_{}[]<>#|~$&!")


def head(experiment: str, scale: str) -> str:
    """How the title of an experiment's report begins; a report with this beginning is updated, not doubled."""
    return f"{experiment} ({scale}): "


def build(content: Content, entity: str, project: str, repository: str | None = None) -> wr.Report:
    """The report.

    Args:
        entity: who owns the project; may be empty as long as the report is not saved.
        repository: address of this project's repository, for links to its files; None leaves the paths.
    """
    return wr.Report(
        entity=entity,
        project=project,
        title=(head(content.experiment, content.scale) + content.title)[:TITLE_LIMIT],
        description=_line(content.question),
        width="fixed",
        blocks=[
            *(wr.CalloutBlock(text=mark) for mark in content.marks),
            *_statement(content),
            *_verdicts(content),
            *report_panels.blocks(content),
            *_tables(content),
            *_origin(content, repository),
        ],
    )


def as_json(report: wr.Report) -> str:
    """What `save` would send, readable."""
    model = report._to_model()  # type: ignore[no-untyped-call]
    shown = json.loads(model.model_dump_json(by_alias=True, exclude_none=True))
    return json.dumps(shown, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def escaped(text: str) -> str:
    """Text that Markdown leaves alone, on one line.

    >>> escaped("[MASK] | *x*")
    '&#91;MASK&#93; &#124; &#42;x&#42;'
    """
    return "".join(f"&#{ord(sign)};" if sign in MARKDOWN else sign for sign in _line(text))


def _line(text: str) -> str:
    return re.sub(r"\s*[\r\n]+\s*", " ", text)


def _pipe_table(panel: Panel) -> wr.MarkdownBlock:
    table = pipes(panel.columns, (*panel.rows, *panel.references), escaped)
    return wr.MarkdownBlock(text=f"{table}\n\n{escaped(panel.caption)}")


def _statement(content: Content) -> list[Any]:
    reference = [_inline(part) for part in content.reference]
    return [
        wr.H1("Question"),
        wr.P(content.question),
        wr.P(f"Claim under test: {content.claim}"),
        wr.P(["Reference: ", *reference]),
        wr.P(" · ".join(f"{what}: {value}" for what, value in content.size)),
    ]


def _verdicts(content: Content) -> list[Any]:
    primary = [verdict for verdict in content.verdicts if verdict.headline]
    stated = [
        f"**{verdict.result.verdict.capitalize()}.** {emphasised(verdict.headline, escaped)}"
        for verdict in primary
    ]
    words = "\n".join(f"- {emphasised(verdict.sentence, escaped)}" for verdict in content.verdicts)
    return [
        wr.H1("Verdict"),
        wr.MarkdownBlock(text="\n\n".join([*stated, " ".join(content.tallies)])),
        wr.H2("Contrasts"),
        _pipe_table(content.contrasts),
        wr.MarkdownBlock(text=words),
    ]


def _tables(content: Content) -> list[Any]:
    return [
        wr.H1("Arms"),
        *(_pipe_table(panel) for panel in content.tables.values()),
        wr.H2("Corruption, asked for and drawn"),
        _pipe_table(content.splits),
    ]


def _origin(content: Content, repository: str | None) -> list[Any]:
    cited = [part for part in content.reference if isinstance(part, Link)]
    return [
        wr.H1("Provenance"),
        _listed([_fact(*fact) for fact in content.provenance]),
        wr.H2("Runs", collapsed_blocks=[_listed([_runs(arm) for arm in content.arms])]),
        wr.H2(
            "Settings that all runs share",
            collapsed_blocks=[_listed([_fact(*fact) for fact in content.settings])],
        ),
        wr.H1("Links"),
        _listed(
            [[wr.Link(one.text, one.target)] for one in cited]
            + [_link(one, repository) for one in content.links]
        ),
    ]


def _listed(items: list[Any]) -> wr.UnorderedList:
    return wr.UnorderedList(items=items)


def _fact(what: str, value: str) -> list[Any]:
    return [f"{what}: ", wr.InlineCode(value)]


def _runs(arm: Arm) -> list[Any]:
    words: list[Any] = [f"{arm.label}{' (baseline)' if arm.baseline else ''}:"]
    for run in arm.runs:
        words += [
            f" seed {run.seed} ",
            wr.InlineCode(run.digest),
            "" if run.state == "finished" else f" {run.state}",
        ]
    return words


def _inline(part: str | Link | Code) -> Any:
    if isinstance(part, Link):
        return wr.Link(part.text, part.target)
    return wr.InlineCode(part.text) if isinstance(part, Code) else part


def _link(link: Link, repository: str | None) -> list[Any]:
    if repository is None or link.target.startswith(f"{layout.RESULTS}/"):
        return _fact(link.text, link.target)
    return [wr.Link(link.text, f"{repository.rstrip('/')}/blob/HEAD/{link.target}")]
