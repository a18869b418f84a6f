"""What an experiment file and a scale file may say. Loads no torch."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mlm import config, measures
from mlm.fields import Name, whole
from mlm.figures import Figures
from mlm.yaml_file import Strict

MOST_SEEDS = 22
"""The exact sign-flip test of n pairs looks at 2ⁿ patterns of signs: at 2²² for half a second."""


def _seeds(value: Any) -> Any:
    if isinstance(value, list):
        good = (
            value and all(type(seed) is int and seed >= 0 for seed in value) and len(set(value)) == len(value)
        )
    else:
        good = type(value) is int and value >= 1
    if not good or (len(value) if isinstance(value, list) else value) > MOST_SEEDS:
        raise ValueError(
            f"is {value!r}; give a number n of seeds, 1 to {MOST_SEEDS}, or a list of so many different seeds, "
            "each 0 or more"
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


Family = Literal["primary", "secondary", "equivalence"]
FAMILIES: tuple[Family, ...] = get_args(Family)


class Contrasts(Strict):
    """One primary contrast; Holm's correction over the secondary ones and over the equivalences."""

    primary: Contrast
    secondary: list[Contrast] = []
    equivalence: list[Equivalence] = []

    def stated(self) -> Iterator[tuple[Family, str, Contrast | Equivalence]]:
        """(family, key in the file, contrast) of every one."""
        for family in FAMILIES:
            members = getattr(self, family)
            if isinstance(members, list):
                yield from ((family, f"{family}.{i}", contrast) for i, contrast in enumerate(members))
            else:
                yield family, family, members

    def rows(self, baseline: str, measure: str) -> list[dict[str, Any]]:
        """The contrasts as data, with the experiment's baseline and primary measure where they name none."""
        return [
            contrast.model_dump()
            | {
                "family": family,
                "against": contrast.against or baseline,
                "measure": contrast.measure or measure,
            }
            for family, _, contrast in self.stated()
        ]


def seeds(stated: int | list[int], at_least: int | None, at_most: int | None) -> list[int]:
    """The seeds that an experiment's `seeds:` comes to under a scale's limits.

    >>> seeds(2, at_least=3, at_most=None), seeds([100, 101, 102], at_least=8, at_most=2)
    ([0, 1, 2], [100, 101])
    """
    listed = list(range(max(stated, at_least or 0))) if isinstance(stated, int) else stated
    return listed[:at_most]


def _apart(rates: list[float]) -> list[float]:
    if len({f"{rate:g}" for rate in rates}) < len(rates):
        raise ValueError(f"{rates}: two rates have the same six digits; give different ones")
    return rates


class Tune(Strict):
    """Learning rates at which every arm is tried, on seeds that none of its contrasts uses."""

    learning_rates: Annotated[list[config.Positive], Field(min_length=3), AfterValidator(_apart)]
    seeds: Annotated[list[int], BeforeValidator(_seeds)]
    measure: str = "validation.own.loss_nats"
    """What a rate is chosen by; within an arm, so it may be of the arm's own corruption, or of its features."""


LEAST_PILOT_SEEDS = 5
"""A spread that is estimated from fewer may as well be guessed."""


def _pilot_seeds(value: Any) -> Any:
    if isinstance(value, list) and len(value) >= LEAST_PILOT_SEEDS:
        return _seeds(value)
    raise ValueError(
        f"is {value!r}; a spread needs {LEAST_PILOT_SEEDS} seeds or more: give a list of so many that no "
        "contrast uses, for instance [200, 201, 202, 203, 204]"
    )


Match = Literal["tokens", "flops"]


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
    match: Match = "tokens"
    """What the arms' budgets have in common; an arm may say otherwise."""
    varies: Annotated[list[str], Field(min_length=1)] | None = None
    """Keys of a run in which arms may differ, `masking.split` for instance; in any, unless told."""
    measures: dict[str, Any] = {}
    """How the runs are measured where that is not as the scale says, key by key; null leaves one out."""
    primary_measure: str
    contrasts: Contrasts
    tune: Tune | None = None
    """What `snakemake NAME-tune` tries."""
    pilot: Annotated[list[int], BeforeValidator(_pilot_seeds)] | None = None
    """Seeds of `snakemake NAME-pilot`, by whose spread `python -m mlm power` tells what contrasts can show."""
    figures: Figures = []
    """Those made for its question, beside the ones that every experiment has."""


TUNE = "-tune"
"""What the name of an experiment's trials ends with."""


class Trials(Experiment):
    """An experiment's arms at several learning rates; nothing is tested."""

    contrasts: None = None  # type: ignore[assignment]
    tried: dict[Name, tuple[Name, float]]
    """Arm here -> the experiment's arm, and the learning rate."""


def trials(experiment: Experiment, tune: Tune) -> Trials:
    """The arms × learning rates of an experiment's `tune:`."""
    tried = {f"{arm}.lr-{rate:g}": (arm, rate) for arm in experiment.arms for rate in tune.learning_rates}
    own = {name: experiment.arms[arm] | _at(experiment.arms[arm], rate) for name, (arm, rate) in tried.items()}
    first = tune.measure.split(".")[0]
    section = {"bits": "bits_per_byte", "corruption": "corruptions"}.get(first, first)
    named = first not in (*measures.SPLITS, *Measures.model_fields)  # by the user: a task or a plug-in
    by = {"tasks", "plugins"} if named and section == first else {section}
    # What no rate is chosen by costs as much as it does in the experiment, and tells nothing here.
    features = Measures.model_fields.keys() - {"evaluation", "reach", "over_training", *by}
    measured = experiment.measures | dict.fromkeys(features) | {"over_training": []}
    if measured.get("evaluation", {}) is None:
        del measured["evaluation"]  # rates are chosen by it
    kept = experiment.model_dump(exclude={"contrasts", "figures", "tune", "pilot", "varies", "match"})
    return Trials.model_validate(
        kept
        | {
            "title": f"{experiment.title} Learning rates",
            "arms": own,
            "baseline": next(name for name, (arm, _) in tried.items() if arm == experiment.baseline),
            "seeds": tune.seeds,
            "match": experiment.match,
            "measures": measured,
            "primary_measure": tune.measure,
            "tried": tried,
        }
    )


PILOT = "-pilot"
"""What the name of an experiment's pilot ends with."""


class Pilot(Experiment):
    """The arms that an experiment's contrasts compare, on seeds that none of them uses; nothing is tested."""

    contrasts: None = None  # type: ignore[assignment]


def pilot(experiment: Experiment) -> Pilot:
    """The pilot of an experiment that has one."""
    stated = [contrast for _, _, contrast in experiment.contrasts.stated()]
    compared = {experiment.baseline, *(one.arm for one in stated), *(one.against for one in stated)}
    about = [one.measure or experiment.primary_measure for one in stated]
    # The loss under the corruption of an arm exists where that arm does.
    compared |= {arm for arm in experiment.arms if any(m.startswith(measures.under(arm) + ".") for m in about)}
    kept = experiment.model_dump(exclude={"contrasts", "figures", "tune", "pilot", "varies"})
    return Pilot.model_validate(
        kept
        | {
            "title": f"{experiment.title} Pilot",
            "arms": {arm: changes for arm, changes in experiment.arms.items() if arm in compared},
            "seeds": experiment.pilot,
            "measures": experiment.measures | {"over_training": []},
        }
    )


def _at(arm: dict[str, Any], rate: float) -> dict[str, Any]:
    return {"optimizer": {**arm.get("optimizer", {}), "learning_rate": rate}}


class Evaluation(Strict):
    """Windows of each held-out split that the final evaluation reads."""

    sequences: Annotated[int, Field(ge=1)] = 1024


class Probe(Strict):
    """Size of the part-of-speech probe."""

    train_sentences: Annotated[int, Field(ge=50)] = 4000
    test_sentences: Annotated[int, Field(ge=50)] = 1500


class Pairs(Strict):
    """Minimal pairs of the grammar, at least so many a kind; or those of BLiMP."""

    per_kind: config.Count = 200
    file: str | None = None
    """A .jsonl file of BLiMP or a folder of them, in the grammar's place."""


Levels = Annotated[list[config.Positive], Field(min_length=1)]


class Reach(Strict):
    """Held-out losses whose cost in tokens, operations and seconds is asked for."""

    loss_nats: Levels | None = None
    """On the yardstick."""
    below_unigram_nats: Levels | None = None
    """Under the run's own corruption: so far below the entropy of the training text's token frequencies."""

    @model_validator(mode="after")
    def _different(self) -> Self:
        if self.loss_nats is None and self.below_unigram_nats is None:
            raise ValueError("no loss is given; give `loss_nats` or `below_unigram_nats`, or leave `reach` out")
        for key, called in (("loss_nats", measures.reach), ("below_unigram_nats", measures.below_unigram)):
            levels = getattr(self, key) or []
            if len({called(level) for level in levels}) < len(levels):
                raise ValueError(f"{key}: {levels} have the same name twice (six digits count); give each once")
        return self


class Corruptions(Strict):
    """The loss under the corruption of every arm of the experiment."""

    sequences: config.Count = 256
    """Windows of the test split."""
    arms: dict[Name, config.Masking] = {}
    """Name -> corruption. The planner adds every arm's; others may be stated, as further yardsticks."""


def _distances(given: list[int]) -> list[int]:
    if twice := [distance for number, distance in enumerate(given) if distance in given[:number]]:
        raise ValueError(f"{twice[0]} is there twice; give each distance once")
    return given


class Radius(Strict):
    """The loss at one target a window when all text beyond a distance of it is resampled."""

    distances: Annotated[list[config.Count], Field(min_length=1), AfterValidator(_distances)] = [
        1, 2, 4, 8, 16, 32,
    ]  # fmt: skip
    """In tokens; what lies so far from the target is still its own text."""
    sequences: Annotated[int, BeforeValidator(whole), Field(ge=2)] = 256
    """Windows of the test split."""


class BitsPerByte(Strict):
    """The likelihood of a text under a causal run; masked runs have none, and no value."""

    bytes: config.Count = 100_000
    """Of the test split's text, whole lines from its beginning."""


class Finetuning(Strict):
    """How an encoder is trained on a task. Linear warm-up, then linear decay to the last step."""

    restarts: config.Count = 5
    """Trainings whose accuracies are averaged."""
    epochs: config.Count = 3
    batch_size: config.Count = 32
    """Sentences."""
    learning_rate: config.Positive = 1e-3
    warmup_share: config.Share = 0.1
    """Of the steps."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.01


def _each_once(names: list[str]) -> list[str]:
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise ValueError(f"{twice[0]} is there twice; give each task once")
    if taken := [name for name in names if name in measures.RESERVED]:
        raise ValueError(f"{taken[0]} is what another measure is called; give the task's file another name")
    return names


MeasureName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
TaskNames = Annotated[list[MeasureName], Field(min_length=1), AfterValidator(_each_once)]


class Finetune(Finetuning):
    """Fine-tuning on sentence tasks, which takes as long as a small pre-training."""

    tasks: TaskNames


class Measures(Strict):
    """How the finished runs are measured, each measure switched on by its key; no part of a run's digest."""

    evaluation: Evaluation | None = None
    probe: Probe | None = None
    pairs: Pairs | None = None
    tasks: TaskNames | None = None
    """Sentence probes, by the names of their files in experiments/probes."""
    finetune: Finetune | None = None
    reach: Reach | None = None
    corruptions: Corruptions | None = None
    radius: Radius | None = None
    bits_per_byte: BitsPerByte | None = None
    plugins: dict[MeasureName, config.PluginPath] = {}
    """Probes of the user's own, by name; their values are called `name.…`."""
    over_training: list[Literal["probe", "pairs", "tasks", "radius", "plugins"]] = []
    """Measures that are also taken of the weights that a run keeps (`checkpoints_at`)."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        on = [name for name in Measures.model_fields if name != "over_training" and getattr(self, name)]
        if not on:
            raise ValueError("nothing is measured; give at least `evaluation: {}`")
        if off := [name for name in self.over_training if name not in on]:
            raise ValueError(f"over_training: {off[0]} is not measured; give it a section of its own")
        if taken := {*self.plugins} & {*measures.RESERVED, *(self.tasks or ())}:
            raise ValueError(f"plugins: {min(taken)} is taken; call your probe otherwise")
        return self


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

    experiments: Annotated[list[Name], Field(min_length=1)]
    evidence: bool
    """False marks tables, figures and the paper: smoke, not evidence."""
    seeds_at_least: Annotated[int, Field(ge=1, le=MOST_SEEDS)] | None = None
    """An experiment that gives a number of seeds gets at least so many."""
    seeds_at_most: Annotated[int, Field(ge=1)] | None = None
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 60.0
    numerics: config.Numerics | None = None
    """Detected on the study's first machine unless stated; what they leave open is as detected."""
    compile: bool = True
    """Whether training steps are compiled where the machine can; not worth it for runs of seconds."""
    run: dict[str, Any] = {}
    measures: Measures
    wandb: Wandb = Wandb()
