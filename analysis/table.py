"""Tidy results -> an experiment's table files: CSV of everything, Markdown and LaTeX of what is printed."""

import math
from collections.abc import Iterator

from analysis import codes, marks, outputs, provenance, reached, references, summary, tidy
from analysis.manuscript_markdown import pipes, unbroken
from analysis.panels import panels
from analysis.printed import DASH, Panel
from analysis.study import Experiment, Study
from mlm import layout, measures
from mlm.files import write_atomically

COLUMNS = ("row", "kind", "measure", "mean", "low", "high", "sd", "n", "reached")


def markdown(panel: Panel) -> str:
    """A pipe table with its caption; spaces around ± do not break."""
    body = pipes(panel.columns, (*panel.rows, *panel.references), unbroken)
    return f"{body}\n\n: {panel.caption}\n"


def latex(panel: Panel) -> str:
    """A booktabs table."""

    def row(cells: tuple[str, ...]) -> str:
        return " & ".join(_escape(cell) for cell in cells) + r" \\"

    parts = [
        rf"\begin{{tabular}}{{@{{}}l{'r' * (len(panel.columns) - 1)}@{{}}}}",
        r"\toprule",
        row(panel.columns),
    ]
    parts += [r"\midrule", *map(row, panel.rows)]
    parts += [r"\midrule", *map(row, panel.references)] if panel.references else []
    parts += [r"\bottomrule", r"\end{tabular}"]
    caption = rf"\caption{{{_escape(panel.caption)}}}\label{{tbl:{panel.name}}}"
    return "\n".join([r"\begin{table}", r"\centering\small", caption, *parts, r"\end{table}", ""])


LATEX = {
    "\\": r"\textbackslash ",
    "[": "{[}",  # at the start of a row it would be taken for an option of the row before
    **{sign: rf"\{sign}" for sign in "%&_#"},
    " ± ": r"~$\pm$~",
    "−": "$-$",
    DASH: "---",
    "∞": r"$\infty$",
}


def _escape(text: str) -> str:
    for plain, code in LATEX.items():
        text = text.replace(plain, code)
    return text


def rows(experiment: Experiment, collected: tidy.Collected) -> Iterator[tuple[object, ...]]:
    """Of table.csv: arms, then what needs no training."""
    names = list(dict.fromkeys(collected.results["measure"]))
    for arm in experiment.arms:
        for name in names:
            if name.split(".")[0] not in measures.BESIDE:
                found = summary.estimate(collected.array(arm, name))
                told = reached.of(collected, arm, name)
                if found is not None:
                    yield arm, "arm", name, *_columns(found), told and str(told)
                elif told is not None and told.runs:
                    yield arm, "arm", name, None, None, None, None, 0, str(told)
    for name in names:
        if name.startswith("untrained."):
            for arm, found in references.untrained(collected, name).items():
                row = f"untrained {arm}".strip()
                yield row, "reference", name.removeprefix("untrained."), *_columns(found), None
        elif name.startswith("reference."):
            for arm, value in references.fixed(collected, name).items():
                row = f"reference {arm}".strip()
                yield row, "reference", name.removeprefix("reference."), value, *[None] * 5


def _columns(found: summary.Estimate) -> tuple[float | None, ...]:
    return found.mean, *_finite(found), found.sd, found.n


def _finite(found: summary.Estimate) -> tuple[float | None, float | None]:
    return (found.low, found.high) if math.isfinite(found.low) else (None, None)


def _made_by(collected: tidy.Collected) -> Iterator[str]:
    """The commits that the runs were made from, and which code made which where there are several."""
    commits = (f"{commit} ({len(digests)})" for commit, digests in collected.commits.items())
    if collected.commits:
        yield f"Runs by the commit that they were made from: {', '.join(commits)}."
    for code, mine in codes.listed(collected):
        yield f"Runs of code {code}: {mine}."


def write(study: Study, name: str) -> None:
    """Write table.csv, table.md and table.tex of an experiment."""
    experiment, collected = study.experiment(name), tidy.load(study.scale, name)
    place, seen = layout.tables(study.scale, name), marks.of(study, collected)
    printed = panels(study, name, collected)
    provenance.forget("table", study.scale, name)
    tidy.write_csv(place / "table.csv", list(rows(experiment, collected)), COLUMNS)
    title = f"# {experiment.title}\n\n"
    banner = "".join(f"**{mark}**\n\n" for mark in seen)
    made = list(_made_by(collected))
    below = "".join(f"\n{line}\n" for line in made)
    write_atomically(place / "table.md", title + banner + "\n".join(map(markdown, printed)) + below)
    comment = "".join(f"% {line}\n" for line in (*seen, *made))
    warning = "".join(rf"\textbf{{{_escape(mark)}}}" + "\n\n" for mark in seen)
    write_atomically(place / "table.tex", comment + warning + "\n".join(map(latex, printed)))
    read, wrote = outputs.results(study.scale, name), outputs.files("table", study.scale, name)
    provenance.write("table", study.scale, name, study=study.stated(name), read=read, wrote=wrote)
