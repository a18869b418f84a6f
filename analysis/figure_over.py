"""A measure while the arms train, over tokens or operations: an experiment's own learning curves."""

from matplotlib.figure import Figure

from analysis import figure_curves, setup, tidy
from analysis.study import Study
from mlm import figures, flops
from mlm.config import Run


def draw(study: Study, name: str, collected: tidy.Collected, asked: figures.Figure) -> Figure:
    """As the curves that every experiment has, of the measure, arms and axis that are asked for."""
    experiment = study.experiment(name)
    spent: dict[str, figure_curves.Grown] = {}
    if asked.x == "flops":
        spent = {arm: operations(run, collected, arm) for arm, run in setup.planned(study, name).items()}
    measure = asked.measure or experiment.primary_measure
    return figure_curves.draw(experiment, collected, measure, arms=asked.arms, spent=spent, log=asked.log)


def operations(run: Run, collected: tidy.Collected, arm: str) -> figure_curves.Grown:
    """Tokens, and operations until then, of an arm's runs; they are not in proportion where lengths grow."""
    ended = collected.array(arm, "training.flops")
    by_step = flops.by_step(run, run.vocabulary.size)
    scale = float(ended[0]) / by_step[-1] if len(ended) else 1.0  # a tokenizer of one's own has other pieces
    return [step * run.tokens_per_step for step in range(len(by_step))], [done * scale for done in by_step]
