"""What there is of a study while its runs go on: tables, figures and pages in a place of their own.

results/SCALE/partial is laid out as results/SCALE is, and has a study.json of its own, so that every command of
the analysis works there (`python -m analysis figures laptop/partial split`) and none touches what the pipeline
makes. Nothing here has p values or verdicts: an experiment whose runs are all measured is left to the pipeline.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from analysis import collect, comparison, contrasts, figures, marks, outputs, report_page, table, tidy
from analysis.study import Study
from mlm import layout
from mlm.files import write_json


def write(study: Study, names: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Make the tables, figures and report pages of what has been measured so far.

    Args:
        names: experiments; empty: those that the scale names.

    Returns:
        The pages written; and a line on each experiment.

    Raises:
        InputError: no such experiment, or damaged files.
    """
    told = list(dict.fromkeys(names)) or list(study.named)
    for name in told:
        study.experiment(name)
    here = study.model_copy(update={"scale": outputs.partial(study.scale)})
    write_json(layout.study_file(here.scale), here.model_dump(mode="json", exclude_unset=True))
    pages, lines, begun = [], [], []
    for name in told:
        collect.collect(here, name)
        collected = tidy.load(here.scale, name)
        seen = marks.of(here, collected)
        ended = collected.runs["finished"] + collected.runs["diverged"]
        if collected.partial and ended:
            for room in (contrasts, table, figures, report_page):
                room.write(here, name)
            begun.append(name)
            pages.append(outputs.report(here.scale, name))
        else:
            for place in (layout.tables(here.scale, name), layout.figures(here.scale, name)):
                shutil.rmtree(place, ignore_errors=True)
            outputs.report(here.scale, name).unlink(missing_ok=True)
            again = f"`snakemake --cores all --config scale={study.scale} {name}` makes its tables"
            seen = [f"all {ended} runs are measured; {again}" if ended else "no run is measured yet"]
        lines.append(f"{name}: {'; '.join(seen)}")
    page = outputs.comparison(here.scale)
    if begun:
        comparison.write(here, begun)
        pages.append(page)
    else:
        page.unlink(missing_ok=True)
    return pages, lines
