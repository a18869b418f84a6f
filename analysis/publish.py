"""A finished study -> docs/results/SCALE: small files that stay in the repository, and a page over them.

An experiment has a folder there: contrasts.csv, table.csv, its figures, slopes.csv where leaving a plateau is
timed, over.csv of figures over training, runs.csv (a row a run: what it took, and the commit it was made
from), reference.json (`analysis.published_runs`) for `python -m mlm verify`, and facts.json for the page.
Trials of learning rates have a folder of their own, with rates.csv in place of contrasts and table. The page
is made of what lies there (`analysis.publish_page`), so experiments may be published one by one.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from analysis import (
    contrasts,
    figure_captions,
    labels,
    leaving,
    marks,
    outputs,
    over_training,
    provenance,
    publish_page,
    published_runs,
    report_content,
    report_tables,
    runs,
    setup,
    tidy,
    tune,
)
from analysis.manuscript_markdown import escaped, listed
from analysis.publish_page import CHANGED, FACTS, REMARK, RUN_COLUMNS, RUNS, Facts, Picture
from analysis.report_content import emphasised
from analysis.study import Study
from mlm import layout
from mlm.errors import Damaged, InputError
from mlm.experiment import PILOT, TUNE
from mlm.files import json_text, write_atomically, write_json

STEPS = ("collect", "contrasts", "table", "figures")
"""Those that make what is published."""
TRIED = ("collect", "tune")
"""The same, of trials of learning rates."""
MOST_BYTES = 200_000
"""Of a figure. An SVG grows with the points in it: of one that passes this the PNG is taken."""


def write(study: Study, names: Sequence[str], to: Path | None = None) -> tuple[list[Path], list[str]]:
    """Publish experiments of a study.

    Args:
        names: experiments, all of which must be complete; empty: those that are complete.
        to: folder in which the scale gets one; `layout.PUBLISHED`, unless told.

    Returns:
        Files written; and, of experiments that nobody named, why they are left out.

    Raises:
        InputError: an experiment is not complete, or the study is no evidence and no folder is told;
            nothing is written then.
    """
    if not study.evidence and to is None:
        raise InputError(
            f"{layout.study_file(study.scale)}: evidence: is false, so these runs show nothing; publish "
            "another scale, or look at the page with --to FOLDER"
        )
    told = list(dict.fromkeys(names)) or [name for name in study.experiments if _asked(study, name)]
    missing = {name: list(_missing(study, name)) for name in told}
    problems = [problem for found in missing.values() for problem in found]
    if problems and (names or all(missing.values())):
        raise InputError(*problems)
    place = (to or layout.PUBLISHED) / study.scale
    gathered = {name: _gathered(study, name) for name, found in missing.items() if not found}
    earlier = {one.facts.experiment: one.facts.files for one in publish_page.read(place)}
    written = [path for name, found in gathered.items() for path in _put(place / name, *found)]
    for name in gathered:
        for file in {*earlier.get(name, ())} - {*gathered[name][1]}:
            (place / name / Path(file).name).unlink(missing_ok=True)
    return [*written, publish_page.write(place)], problems


def _asked(study: Study, name: str) -> bool:
    """Whether it is published where nothing is named: no pilot, and trials only if somebody has run them."""
    tried = study.experiment(name).tried
    return not name.endswith(PILOT) and (
        not tried or Path(outputs.files("tune", study.scale, name)[0]).exists()
    )


def _missing(study: Study, name: str) -> Iterator[str]:
    """What stands between an experiment and its publication."""
    if name.endswith(PILOT):
        yield f"{name}: is a pilot, and tests nothing"
        return
    again = f"`snakemake --cores all --config scale={study.scale} {name}`"
    wanted = [
        path
        for step in _steps(study, name)
        if step != "figures"
        for path in outputs.files(step, study.scale, name)
    ]
    wanted += [path.as_posix() for figure in _shown(study, name) for path in _drawn(study, name, figure)]
    if gone := [path for path in wanted if not Path(path).exists()]:
        yield f"{name}: missing are {_few(gone)}; {again} makes them"
        return
    if old := list(_outdated(study, name)):
        yield from dict.fromkeys(f"{name}: {one}" for one in old)
        return
    collected = tidy.load(study.scale, name)
    r = collected.results
    if collected.partial:
        lost = r[r["status"] == "unfinished"].drop_duplicates("run")
        places = [layout.run_name(arm, seed) for arm, seed in zip(lost["arm"], lost["seed"], strict=True)]
        yield f"{name}: not finished or not measured are {_few(places)}; {again} goes on with them"
    elif study.experiment(name).tried:
        return
    elif (told := contrasts.load_all(study.scale, name)) != contrasts.marked(study.scale, name, told.results):
        anew = f"`snakemake --cores all --config scale={study.scale} --forcerun contrasts -- {name}`"
        yield f"{name}: when its contrasts were stated is told otherwise by now; {anew} makes them anew"


def _steps(study: Study, name: str) -> tuple[str, ...]:
    return TRIED if study.experiment(name).tried else STEPS


def _outdated(study: Study, name: str) -> Iterator[str]:
    """What is not as its step left it, or would be made otherwise by now."""
    for step in _steps(study, name):
        try:
            manifest = provenance.load(provenance.file(step, study.scale, name))
            provenance.check(step, study.scale, name)
            yield from provenance.outdated(study.scale, manifest, layout.RESULTS, study.stated(name))
        except Damaged as error:
            yield from error.problems


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def _shown(study: Study, name: str) -> list[str]:
    """The figures that are published: the verdicts, and those made for the question."""
    if study.experiment(name).tried:
        return ["rates"]
    return ["contrasts", *(one.stem for one in study.experiment(name).figures)]


def _drawn(study: Study, name: str, figure: str) -> tuple[Path, Path]:
    place = layout.figures(study.scale, name)
    return place / f"{figure}.svg", place / f"{figure}.png"


def _gathered(study: Study, name: str) -> tuple[Facts, dict[str, bytes]]:
    """What the page says of an experiment, and its other files: name -> content."""
    tables = layout.tables(study.scale, name)
    told = ("rates.csv",) if study.experiment(name).tried else ("contrasts.csv", "table.csv")
    files = [tables / file for file in told]
    pictures, stated = [], study.experiment(name)
    captions = {"rates": figure_captions.rates(stated)} if stated.tried else figure_captions.of(stated)
    for figure in _shown(study, name):
        svg, png = _drawn(study, name, figure)
        size, note = svg.stat().st_size, ""
        if size > MOST_BYTES:
            note = f"A PNG, as the SVG has {size // 1000} kB."
        files.append(png if note else svg)
        pictures.append(Picture(file=files[-1].name, caption=captions[figure], note=note))
    contents = {path.name: path.read_bytes() for path in files}
    contents[RUNS] = tidy.csv_text(list(_runs(study, name)), RUN_COLUMNS).encode()
    collected = tidy.load(study.scale, name)
    for file, room in (("slopes.csv", leaving), ("over.csv", over_training)):
        if rows := list(room.rows(study, name, collected)):
            contents[file] = tidy.csv_text(rows, room.COLUMNS).encode()
    contents[published_runs.FILE] = json_text(published_runs.of(study, name).model_dump(mode="json")).encode()
    return _facts(study, name, pictures, sorted(contents)), contents


def _runs(study: Study, name: str) -> Iterator[tuple[object, ...]]:
    for cell in study.cells(name):
        record = runs.run(cell.digest)
        if record is not None:
            took = record.tokens, record.flops, record.training_seconds, record.wall_seconds
            yield cell.arm, cell.seed, cell.digest, record.status, *took, commit(record.git)


def commit(git: runs.Git) -> str:
    """The commit of a run, as the page and runs.csv say it."""
    return f"{git.commit}{CHANGED if git.dirty else ''}" if git.commit else "not recorded"


def _facts(study: Study, name: str, pictures: list[Picture], files: list[str]) -> Facts:
    stated, collected = study.experiment(name), tidy.load(study.scale, name)
    digest = study.cells(name)[0].digest
    numerics = runs.config(digest)["numerics"]
    devices = {record.device for cell in study.cells(name) if (record := runs.run(cell.digest))}
    torch = setup.versions(study, name).get("torch", "of several versions")
    machine = f"{' or '.join(sorted(devices))}, {numerics['dtype']}, {numerics['path']}, torch {torch}"
    facts = Facts(
        experiment=name,
        title=stated.title,
        question=stated.question,
        claim=stated.claim,
        reference=stated.reference,
        reckoned=stated.cost,
        marks=marks.of(study, collected),
        code=str(collected.code),
        accepted=[change.why for change in stated.accepted],
        machine=machine,
        unit="core" if numerics["device"] == "cpu" else "device",
        figures=pictures,
        files=files,
    )
    told = _of_trials(study, name, collected) if stated.tried else _of_contrasts(study, name)
    return facts.model_copy(update=told)


def _of_trials(study: Study, name: str, collected: tidy.Collected) -> dict[str, Any]:
    """What the page says of trials; the claim and the cost that their experiment states are not theirs."""
    stated = study.experiment(name)
    rates = [f"{rate:g}" for rate in dict.fromkeys(rate for _, rate in stated.tried.values())]
    rows = list(tune.rows(stated, collected, len(study.seeds(name))))
    return {
        "question": f"Which rate of {listed(rates, 'and')} suits each arm of {name.removesuffix(TUNE)}, "
        f"by {labels.measure(stated.primary_measure)}, on seeds that no contrast uses?",
        "claim": "",
        "reference": "",
        "reckoned": "",
        "tallies": [f"Best: {'. '.join(tune.said(rows))}."],
    }


def _of_contrasts(study: Study, name: str) -> dict[str, Any]:
    content = report_content.build(study, name)
    results = [one.result for one in content.verdicts]
    return {
        "findings": [
            {
                **dict(zip(content.contrasts.columns, row, strict=True)),
                "measure": labels.measure(one.measure),
            }
            for row, one in zip(content.contrasts.rows, results, strict=True)
        ],
        "restricted": report_tables.restricted(results).strip(),
        "stated": report_tables.stated(results, content.withdrawn).strip(),
        "primary": [
            emphasised(one.sentence, escaped) for one in content.verdicts if one.result.family == "primary"
        ],
        "tallies": list(content.tallies),
    }


def _put(place: Path, facts: Facts, contents: dict[str, bytes]) -> Iterator[Path]:
    """Write an experiment's folder, its facts last: until then the page does not know it.

    Earlier facts go first, so that a publication that is killed leaves none beside the files of another study.
    """
    for old in (FACTS, REMARK):
        (place / old).unlink(missing_ok=True)
    for name, content in contents.items():
        write_atomically(place / name, content)
        yield place / name
    write_json(place / FACTS, facts.model_dump())
    yield place / FACTS
