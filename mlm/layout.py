"""Where things lie, from the root of a study. What runs leave is in results/, what people write is not."""

from pathlib import Path

EXPERIMENTS = Path("experiments")
RESULTS = Path("results")
PUBLISHED = Path("docs/results")
"""What was found, to stay in the repository; a folder a scale, in it one an experiment."""


def study_file(scale: str) -> Path:
    """The study as data, written by the planner."""
    return RESULTS / scale / "study.json"


def measures_file(scale: str) -> Path:
    """What the experiments that a start asks for measure of each run, for the jobs that train them."""
    return RESULTS / scale / "measures.json"


def tables(scale: str, experiment: str) -> Path:
    """Folder of an experiment's tables."""
    return RESULTS / scale / "tables" / experiment


def figures(scale: str, experiment: str) -> Path:
    """Folder of an experiment's figures."""
    return RESULTS / scale / "figures" / experiment


def run_name(*label: object) -> str:
    """What a person calls a run.

    >>> run_name("split", "80-10-10", 0), run_name("80-10-10", 0)
    ('split/80-10-10/seed-0', '80-10-10/seed-0')
    """
    *places, seed = label
    return "/".join((*map(str, places), f"seed-{seed}"))


def kept_weights(run: Path, step: int) -> Path:
    """Where a run's folder keeps its weights of a step, if its `checkpoints_at` asks for it."""
    return run / "kept" / f"{step:012d}.safetensors"
