"""What an experiment file and a scale file may say. Loads no torch."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from mlm import config
from mlm.yaml_file import Strict

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]


def _seeds(value: Any) -> Any:
    if isinstance(value, list):
        good = (
            value and all(type(seed) is int and seed >= 0 for seed in value) and len(set(value)) == len(value)
        )
    else:
        good = type(value) is int and value >= 1
    if not good:
        raise ValueError(
            f"is {value!r}; give a number n of seeds, at least 1, or a list of different seeds, each 0 or more"
        )
    return value


class Contrast(Strict):
    """An arm against another on one measure, stated before the runs."""

    arm: Name
    against: Name | None = None
    """The baseline, unless told."""
    measure: str | None = None
    """The experiment's primary measure, unless told."""
    expect: Literal["higher", "lower", "differ"] = "differ"


class Equivalence(Strict):
    """A claim of no difference: |arm - against| stays below `margin`, in the measure's unit."""

    arm: Name
    against: Name | None = None
    measure: str | None = None
    margin: Annotated[float, Field(gt=0)]


class Contrasts(Strict):
    """One primary contrast; Holm's correction over the secondary ones and over the equivalences."""

    primary: Contrast
    secondary: list[Contrast] = []
    equivalence: list[Equivalence] = []


class Experiment(Strict):
    """An experiment file; reads as a registered report."""

    title: str
    question: str
    claim: str
    reference: str
    cost: str
    base: dict[str, Any] = {}
    baseline: Name
    arms: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    seeds: Annotated[int | list[int], BeforeValidator(_seeds)]
    """A number n, meaning 0 … n - 1, or a list."""
    primary_measure: str
    contrasts: Contrasts


class Probe(Strict):
    """Size of the part-of-speech probe."""

    train_sentences: Annotated[int, Field(ge=50)] = 4000
    test_sentences: Annotated[int, Field(ge=50)] = 1500


class Evaluation(Strict):
    """Windows of each held-out split that the final evaluation reads."""

    sequences: Annotated[int, Field(ge=1)] = 1024


class Measures(Strict):
    """How the finished runs are measured; no part of a run's digest."""

    evaluation: Evaluation = Evaluation()
    probe: Probe = Probe()


class Wandb(Strict):
    """Weights & Biases, unless the environment variables WANDB_MODE, _PROJECT and _ENTITY say otherwise."""

    mode: Literal["offline", "online", "disabled"] = "offline"
    project: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")] = "mlm"
    entity: str | None = None
    """The user or team; of the API key's, unless told."""
    upload_weights: bool = False
    """Whether a run's weights are uploaded; their digest always is."""
    wait_seconds: Annotated[float, Field(gt=0)] = 30.0
    """How long an ended run waits for W&B; what is missing then is left to `sync`."""


class Scale(Strict):
    """A scale file: what the default target runs, and how large."""

    title: str
    experiments: Annotated[list[Name], Field(min_length=1)]
    evidence: bool
    """False marks tables, figures and the paper: smoke, not evidence."""
    seeds_at_most: Annotated[int, Field(ge=1)] | None = None
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 60.0
    numerics: config.Numerics | None = None
    """Detected on the study's first machine unless stated."""
    run: dict[str, Any] = {}
    measures: Measures = Measures()
    wandb: Wandb = Wandb()
