"""A report on an experiment as one HTML page that needs nothing beside it, and no network."""

import os
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from analysis import outputs, report_content, report_svg, verdicts
from analysis.report_content import Content
from analysis.study import Study
from mlm import layout
from mlm.files import write_atomically

TEMPLATES = Path(__file__).parent / "templates"
CAPTIONS = Path(__file__).parent / "captions"
"""What stands below a figure: plain text, for Snakemake's own report too."""


def write(study: Study, name: str) -> None:
    """Write the page of an experiment, from the tables of `collect` and `contrasts` and the figures."""
    page = outputs.report(study.scale, name)
    figures = {figure: layout.figures(study.scale, name) / f"{figure}.svg" for figure in outputs.FIGURES}
    write_atomically(page, render(report_content.build(study, name), figures, page.parent))


def render(content: Content, figures: dict[str, Path], place: Path) -> str:
    """The page.

    Args:
        figures: name -> SVG file.
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
    return environment.get_template("report.html.j2").render(
        content=content,
        css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),  # noqa: S704 - this project's own file
        figures={name: Markup(report_svg.inline(path, name, colours)) for name, path in figures.items()},  # noqa: S704
        captions={name: (CAPTIONS / f"{name}.rst").read_text(encoding="utf-8").strip() for name in figures},
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
