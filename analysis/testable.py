"""What an experiment cannot show, by its seeds or its arms, said before any of its runs is paid for."""

from collections.abc import Iterator, Sequence

from analysis import verdicts
from analysis.manuscript_markdown import listed
from mlm import checks, yaml_file
from mlm.experiment import FAMILIES
from mlm.layout import EXPERIMENTS
from mlm.study import Study


def problems(study: Study, names: Sequence[str] = ()) -> Iterator[str]:
    """Families of contrasts that no outcome could decide, or none but that all seeds agree.

    The former will be called descriptive. Of the latter, the first that Holm's correction lets through needs
    all signs alike: with one that differs, p is at the least 2 · sides / 2ⁿ. The primary contrasts of all
    experiments of the scale are a family too, by which the paper corrects them once more.

    Args:
        names: experiments that are asked of; all, unless told.
    """
    if not study.scale.evidence:
        return
    seeds = {
        name: len({cell.seed for cell in study.cells if cell.experiment == name}) for name in study.experiments
    }
    close: dict[tuple[int, str], list[str]] = {}
    for name in names or study.experiments:
        experiment, n = study.experiments[name], seeds[name]
        for family in FAMILIES if experiment.contrasts else ():
            m = sum(row["family"] == family for row in study.contrast_rows(name))
            sides = 1 if family == "equivalence" else 2
            if m and all(verdicts.out_of_reach([n] * m, sides)):
                yield (
                    f"{EXPERIMENTS / name}.yaml: seeds: {n} cannot decide {m} {family} contrast{'s' * (m > 1)} "
                    f"at the level {verdicts.LEVEL:g}, which will be descriptive; give {_enough(m, sides)} "
                    "or more"
                )
            elif sides == 2 and m and all(verdicts.out_of_reach([n - 1] * m, sides)):
                close.setdefault((n, family), []).append(name)
        if experiment.contrasts and experiment.varies is None:
            yield from _mixed(study, name)
    together = [seeds[name] for name in study.scale.experiments if seeds.get(name)]
    if len(together) > 1 and all(verdicts.out_of_reach(together, 2)):
        m = len(together)
        yield (
            f"{EXPERIMENTS}/scales/{study.scale_name}.yaml: experiments: corrected over the {m} of them, no "
            f"primary contrast can reach the level {verdicts.LEVEL:g}; with {_enough(m, 2)} seeds one can"
        )
    for (n, of), few in close.items():
        yield (
            f"{EXPERIMENTS}: {', '.join(few)}: seeds: with {n}, no {of} contrast is decided unless all {n} "
            f"pairs of one agree in sign; with {n + 1} one may differ"
        )


def _enough(m: int, sides: int) -> int:
    """The fewest seeds with which one of m contrasts can reach the level."""
    return next(n for n in range(1, 64) if not any(verdicts.out_of_reach([n] * m, sides)))


def _mixed(study: Study, name: str) -> Iterator[str]:
    """An arm that differs from the baseline in several things at once, where nothing says that it may."""
    first = {cell.arm: cell.digest for cell in reversed(study.cells) if cell.experiment == name}
    flat = {arm: yaml_file.flat(study.runs[digest].config.model_dump()) for arm, digest in first.items()}
    experiment, baseline = study.experiments[name], study.experiments[name].baseline
    for arm in experiment.arms:
        differing = checks.differing(flat[arm], flat[baseline]) - {"seed"}
        if "flops" in {experiment.arms[one].get("match", experiment.match) for one in (arm, baseline)}:
            differing -= {"budget_tokens", "optimizer.warmup_tokens", "optimizer.decay_tokens"}  # they follow
        keys = sorted({key.split(".")[0] for key in differing})
        if len(keys) > 1:
            yield (
                f"{EXPERIMENTS / name}.yaml: arms.{arm}: differs from {baseline} in {listed(keys, 'and')}, so "
                "what comes of it is of all of them; change one, or name them in `varies:`"
            )
            return  # one line an experiment
