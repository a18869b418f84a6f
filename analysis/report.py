"""A report on an experiment as one HTML page that needs nothing beside it, and no network."""

import os
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from analysis import figure_captions, outputs, provenance, report_content, report_svg, verdicts
from analysis.report_content import Content
from analysis.study import Study
from mlm import layout
from mlm.figures import EVERY
from mlm.files import write_atomically

TEMPLATES = Path(__file__).parent / "templates"


def write(study: Study, name: str) -> None:
    """Write the page of an experiment, from the tables of `collect` and `contrasts` and the figures.

    Raises:
        InputError: one of them is missing, was changed, or was made from other tables or for another study.
    """
    provenance.check("figures", study.scale, name, study=study.stated(name))
    page = outputs.report(study.scale, name)
    captions = figure_captions.of(study.experiment(name))
    curves = figure_captions.curves(study.experiment(name))  # of the same curves one figure is enough
    shown = [figure for figure in captions if figure != "curves" or figure == curves]
    figures = {figure: layout.figures(study.scale, name) / f"{figure}.svg" for figure in shown}
    write_atomically(page, render(report_content.build(study, name), figures, captions, page.parent))


def render(content: Content, figures: dict[str, Path], captions: dict[str, str], place: Path) -> str:
    """The page.

    Args:
        figures: name -> SVG file; beside the fixed ones those made for the experiment's question, in order.
        captions: name -> what stands below it.
        place: folder that the page's links start from.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    colours = {arm.colour: f"arm-{index}" for index, arm in enumerate(content.arms)}
    return environment.get_template(
        "report.html.j2"
    ).render(
        content=content,
        css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),  # noqa: S704 - this project's own file
        figures={name: Markup(report_svg.inline(path, name, colours)) for name, path in figures.items()},  # noqa: S704
        captions=captions,
        own=[name for name in figures if name not in EVERY],
        probed=[panel for panel in ("features", "pairs", "tasks") if panel in content.tables],
        second=lambda row: (row[0], row[-1], *row[1:-1]),  # where no window cuts the verdict off
        variables=colours,
        arms={arm.name: arm for arm in content.arms},
        meanings=verdicts.VERDICTS,
        relative=lambda target: Path(os.path.relpath(target, place)).as_posix(),
        finished=_finished,
        zip=lambda *rows: list(zip(*rows, strict=True)),
    )


def _finished(runs: Sequence[report_content.Run]) -> str:
    ended = sum(run.state == "finished" for run in runs)
    return f"{ended} of {len(runs)} finished"
