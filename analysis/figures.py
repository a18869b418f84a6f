"""The figures of an experiment: learning curves, contrasts, layers."""

from analysis import contrasts, figure_contrasts, figure_curves, figure_layers, marks, style, tidy
from analysis.study import Study
from mlm import layout


def write(study: Study, name: str) -> None:
    """Write curves, contrasts and layers as SVG, PDF and PNG, from the tables of `collect` and `contrasts`."""
    experiment, collected = study.experiment(name), tidy.load(study.scale, name)
    results = contrasts.load(study.scale, name)
    place, seen = layout.figures(study.scale, name), marks.of(study, collected)
    with style.applied():
        made = {
            "curves": figure_curves.draw(experiment, collected),
            "contrasts": figure_contrasts.draw(results),
            "layers": figure_layers.draw(experiment, collected),
        }
        for stem, figure in made.items():
            style.mark(figure, seen)
            style.save(figure, place, stem)
