"""What there is of a study while its runs go on: tables, figures and pages in a place of their own.

results/SCALE/partial is laid out as results/SCALE is, and has a study.json of its own, so that every command of
the analysis works there (`python -m analysis figures laptop/partial split`) and none touches what the pipeline
makes. It holds what was asked for last. Nothing in it has p values, intervals of differences or verdicts: an
experiment whose runs are all measured is left to the pipeline.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from analysis import collect, comparison, contrasts, figures, marks, outputs, report, table, tidy
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
    shutil.rmtree(layout.study_file(here.scale).parent, ignore_errors=True)
    write_json(layout.study_file(here.scale), here.model_dump(mode="json", exclude_unset=True))
    begun, lines = [], []
    for name in told:
        collect.collect(here, name)
        collected = tidy.load(here.scale, name)
        ended = collected.runs["finished"] + collected.runs["diverged"]
        if not collected.partial:
            again = f"`snakemake --cores all --config scale={study.scale} {name}` makes its tables"
            lines.append(f"{name}: all {ended} runs are measured; {again}")
        elif not ended:
            lines.append(f"{name}: no run is measured yet")
        else:
            for room in (contrasts, table, figures, report):
                room.write(here, name)
            lines.append(f"{name}: {'; '.join(marks.of(here, collected))}")
            begun.append(name)
    if begun:
        comparison.write(here, begun)
    pages = [*(outputs.report(here.scale, name) for name in begun), outputs.comparison(here.scale)]
    return pages if begun else [], lines
