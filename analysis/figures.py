"""The figures of an experiment: those that every one has, and those made for its question."""

from matplotlib.figure import Figure

from analysis import (
    contrasts,
    figure_arms,
    figure_contrasts,
    figure_curves,
    figure_dose,
    figure_layers,
    figure_leaving,
    figure_matrix,
    figure_over,
    figure_pareto,
    figure_radius,
    figure_realised,
    marks,
    outputs,
    provenance,
    style,
    tidy,
)
from analysis.study import Study
from mlm import layout

OWN = {
    "arms": figure_arms.draw,
    "dose": figure_dose.draw,
    "over": figure_over.draw,
    "matrix": figure_matrix.draw,
    "leaving": figure_leaving.draw,
    "radius": figure_radius.draw,
}
"""What an experiment's file may ask for; see `mlm.figures`."""


def write(study: Study, name: str) -> None:
    """Write an experiment's figures as SVG, PDF and PNG, from the tables of `collect` and `contrasts`."""
    experiment, collected = study.experiment(name), tidy.load(study.scale, name)
    results = contrasts.load(study.scale, name)
    place, seen = layout.figures(study.scale, name), marks.of(study, collected)
    provenance.forget("figures", study.scale, name)
    with style.applied():
        made: dict[str, Figure] = {
            "curves": figure_curves.draw(experiment, collected),
            "contrasts": figure_contrasts.draw(results),
            "layers": figure_layers.draw(experiment, collected),
            "realised": figure_realised.draw(study, name, collected),
            "pareto": figure_pareto.draw(study, name, collected),
            "seconds": figure_pareto.seconds(study, name, collected),
        }
        made |= {one.stem: OWN[one.kind](study, name, collected, one) for one in experiment.figures}
        for stem, figure in made.items():
            style.mark(figure, seen)
            style.save(figure, place, stem)
    wrote = outputs.files("figures", study.scale, name, [one.stem for one in experiment.figures])
    read, told = outputs.results(study.scale, name), study.stated(name)
    provenance.write("figures", study.scale, name, study=told, read=read, wrote=wrote)
