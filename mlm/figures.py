"""The figures that an experiment file asks for, made for its question. Loads no torch."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from mlm import measures
from mlm.config import Run
from mlm.yaml_file import Strict

Kind = Literal["arms", "dose", "over", "matrix", "leaving", "radius"]
KINDS: tuple[Kind, ...] = get_args(Kind)
KEYS: dict[Kind, tuple[str, ...]] = {
    "arms": ("measure", "by"),
    "dose": ("measure", "by", "x", "log"),
    "over": ("measure", "x", "log"),
    "matrix": (),
    "leaving": ("level", "by"),
    "radius": (),
}
"""What a kind of figure may be told beside its name and arms."""
EVERY = ("curves", "contrasts", "layers", "realised", "pareto", "seconds")
"""Figures that every experiment has; no machine gives `seconds` the same twice."""
AXES = ("tokens", "flops")
"""What `over` may run over."""


class Figure(Strict):
    """One figure.

    arms      a measure of each arm, every seed a point; `by`: one key, which groups the arms
    dose      a measure against `x`, a number in the configuration; a line for each value of the keys in `by`
    over      a measure against `x`, tokens or flops, while the arms train
    matrix    every arm's loss under every arm's corruption
    leaving   tokens until a plateau is left against visible tokens; a line for each value of `by`
    radius    the loss with text beyond a distance resampled, by arm; a line for each moment that is measured
    """

    kind: Kind
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")] | None = None
    """Of its files; the kind, unless told."""
    arms: Annotated[list[str], Field(min_length=1)] | None = None
    """Those that are drawn; all, unless told."""
    measure: str | None = None
    """The experiment's primary measure, unless told."""
    x: str | None = None
    by: list[str] = []
    log: bool = False
    """Whether the x axis is logarithmic."""
    level: str = "unigram-0.5"
    """The loss that ends the plateau, as in `reach.LEVEL.tokens`."""

    @property
    def stem(self) -> str:
        """Name of its files."""
        return self.name or self.kind

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        allowed = ("kind", "name", "arms", *KEYS[self.kind])
        if strange := sorted(self.model_fields_set - {*allowed}):
            raise ValueError(
                f"{strange[0]}: does not go with kind: {self.kind}; known keys: {', '.join(allowed)}"
            )
        if self.kind == "dose" and self.x is None:
            raise ValueError("x: missing; give a key with a number, such as masking.rate")
        if self.kind == "over" and self.x not in (None, *AXES):
            raise ValueError(f"x: is {self.x!r}; choose one of {', '.join(AXES)}")
        if self.kind == "arms" and len(self.by) > 1:
            raise ValueError("by: one key groups the arms of a figure; take the others away")
        return self


def _told_apart(figures: list[Figure]) -> list[Figure]:
    taken = list(EVERY)
    for figure in figures:
        if figure.stem in taken:
            raise ValueError(f"two figures are called {figure.stem}; give one a `name` of its own")
        taken.append(figure.stem)
    return figures


Figures = Annotated[list[Figure], AfterValidator(_told_apart)]


def setting(run: Run, key: str) -> Any:
    """A value of a run's configuration by its dotted key; None where there is none.

    Attention without groups has one, of the whole sequence.

    >>> setting(Run(), "masking.rate"), setting(Run(), "attention.group"), setting(Run(), "no.such.key")
    (0.15, 64, None)
    """
    value: Any = run.model_dump()
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return run.sequence_length if value is None and key == "attention.group" else value


def problems(
    where: str,
    figures: Sequence[Figure],
    primary: str,
    stated: Sequence[str],
    runs: Mapping[str, Run],
    known: Mapping[str, Sequence[str]],
    over_training: Sequence[str] = (),
) -> Iterator[str]:
    """Figures that could not be drawn from what is planned: of arms, keys or measures that do not exist.

    Args:
        where: the file, for instance `experiments/split.yaml`.
        primary: the experiment's primary measure.
        stated: the arms in the file.
        runs: arm -> what its runs are asked to do, of those with which nothing is wrong.
        known: arm -> every value that is measured of its runs.
        over_training: first words of the measures that are taken of kept weights too.
    """
    for number, figure in enumerate(figures):
        key = f"{where}: figures.{number}"
        if strange := [arm for arm in figure.arms or () if arm not in stated]:
            yield f"{key}.arms: no arm is called {strange[0]!r}; there are: {', '.join(stated)}"
            continue
        # What is wrong with the others is told already.
        arms = [arm for arm in figure.arms or stated if arm in runs]
        if not arms:
            continue
        for one in figure.by:
            if all(setting(runs[arm], one) is None for arm in arms):
                yield f"{key}.by: no run has {one}; give a key such as masking.rate"
        wanted = [figure.measure or primary]
        if figure.kind == "matrix":
            wanted = [f"corruption.{arm}.loss_nats" for arm in arms]
        elif figure.kind == "leaving":
            wanted = [f"reach.{figure.level}.observed_tokens"]  # only losses below the unigram entropy have it
        elif figure.kind == "radius":
            wanted = [f"{measures.radius(None)}.loss_nats"]
        if figure.kind == "dose":
            places: dict[str, str] = {}
            for arm in arms:
                x = setting(runs[arm], str(figure.x))
                if isinstance(x, bool) or not isinstance(x, int | float):
                    yield f"{key}.x: {figure.x} of arm {arm} is {x!r}, no number; name the `arms` that have one"
                    continue
                place = repr((x, [setting(runs[arm], one) for one in figure.by]))
                first = places.setdefault(place, arm)
                if first != arm:
                    yield (
                        f"{key}: {first} and {arm} have the same place; add what sets them apart to `by`, or "
                        "name the `arms` to draw"
                    )
        kept = over_training if any(runs[arm].kept_steps for arm in arms) else ()
        if figure.kind == "over" and wanted[0].partition(".")[0] not in ("validation", *kept):
            yield (
                f"{key}.measure: {wanted[0]} is known of the end of a run alone; give one that begins with "
                "`validation.`, or take it on the way (`measures.over_training`, `checkpoints_at`)"
            )
            continue
        if figure.kind == "over" and wanted[0].startswith("probe.layer_"):
            yield f"{key}.measure: layers are read one by one at the end of a run alone; give probe.accuracy"
            continue
        for measure in wanted:
            if not any(measures.known(measure, known[arm]) for arm in arms):
                yield f"{key}: no arm has the measure {measure}; it is switched on in `measures:`"
