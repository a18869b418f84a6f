"""The scales there are, and what begins a study of one. Loads no torch."""

from mlm.layout import EXPERIMENTS, RESULTS

DEFAULT = "laptop"
"""The scale of `make` and of commands that name none."""


def names() -> list[str]:
    """Names of the scale files."""
    return sorted(path.stem for path in (EXPERIMENTS / "scales").glob("*.yaml"))


def begun() -> list[str]:
    """The scales of which there is a study."""
    return sorted(path.parent.name for path in RESULTS.glob("*/study.json"))


def not_begun(scale: str) -> str:
    """That there is no study of a scale, and what begins it."""
    there = f"scales: {', '.join(names()) or 'none'}; begun: {', '.join(begun()) or 'none'}"
    if scale not in names():
        return f"no scale is called {scale!r}; {there}"
    chosen = "" if scale == DEFAULT else f" --config scale={scale}"
    return f"no study of this scale has begun; `snakemake --cores all{chosen}` begins one ({there})"
