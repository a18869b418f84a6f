"""The schema of a section -> what can be wrong with each of its keys; a new key is malformed by itself."""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types as limits
from pydantic import AfterValidator, BaseModel
from pydantic.fields import FieldInfo

Path = tuple[str | int, ...]
"""Keys, and indices of lists."""
MISSING = object()
"""In the place of a value: the key is taken away."""


@dataclass(frozen=True)
class Malformed:
    """One thing that is wrong with one key."""

    key: Path
    value: Any
    """What stands there."""
    how: str
    instead_of: str = ""
    """Of a misspelt key: the one that is gone."""


@dataclass(frozen=True)
class _Type:
    """One of the types that a value may have, and its limits."""

    kind: Any
    limits: tuple[Any, ...]


def malformed(model: type[BaseModel], sample: Any, path: Path = ()) -> Iterator[Malformed]:
    """Everything that is tried on a section and the sections in it.

    Args:
        sample: the whole section; what it lacks is not looked into, and not missed.
    """
    for name, field in model.model_fields.items():
        key, kinds = (*path, name), list(_types(field.annotation, tuple(field.metadata)))
        inside = sample.get(name) if isinstance(sample, dict) else None
        yield Malformed((*path, misspelt(name)), inside, "a misspelt key", name)
        if field.is_required() and isinstance(sample, dict) and name in sample:
            yield Malformed(key, MISSING, "missing")
        yield Malformed(key, _of_no_kind(kinds), "of a wrong type")
        for kind in kinds:
            for value in _beyond(kind):
                yield Malformed(key, value, "out of range")
            yield from _inside(kind, inside, key)


def _inside(kind: _Type, sample: Any, key: Path) -> Iterator[Malformed]:
    """The same of the sections, list entries and mapping entries in a value."""
    origin, arguments = get_origin(kind.kind), get_args(kind.kind)
    if isinstance(kind.kind, type) and issubclass(kind.kind, BaseModel):
        tag = kind.kind.model_fields.get("kind")  # which of several sections it is
        if isinstance(sample, dict) and (tag is None or sample["kind"] in get_args(tag.annotation)):
            yield from malformed(kind.kind, sample, key)
    elif origin in (list, dict) and arguments[-1] is not Any:
        sample = sample if isinstance(sample, origin) else None
        first: Any = 0
        if origin is dict:
            first = next(iter(sample or {}), "some")
            for named in _types(arguments[0], ()):
                for value in _beyond(named):
                    yield Malformed((*key, value), (sample or {}).get(first, {}), "a bad name")
        inner = list(_types(arguments[-1], ()))
        within = sample[first] if sample else None
        if not any(isinstance(one.kind, type) and issubclass(one.kind, BaseModel) for one in inner):
            yield Malformed((*key, first), _of_no_kind(inner), "an entry of a wrong type")
        for one in inner:
            for value in _beyond(one):
                yield Malformed((*key, first), value, "an entry out of range")
            yield from _inside(one, within, (*key, first))


def misspelt(name: str) -> str:
    """The last letter is said twice."""
    return name + name[-1]


def _types(annotation: Any, metadata: tuple[Any, ...]) -> Iterator[_Type]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _types(arguments[0], (*metadata, *arguments[1:]))
    elif origin in (Union, types.UnionType):
        for one in arguments:
            yield from _types(one, metadata)
    elif annotation is not type(None):
        yield _Type(annotation, tuple(_flat(metadata)))


def _flat(metadata: tuple[Any, ...]) -> Iterator[Any]:
    for one in metadata:
        yield from _flat(tuple(one.metadata)) if isinstance(one, FieldInfo) else (one,)


def _of_no_kind(kinds: list[_Type]) -> Any:
    """A value that none of the types takes."""
    taken = {get_origin(kind.kind) or kind.kind for kind in kinds}
    text = str in taken or any(get_origin(kind.kind) is Literal for kind in kinds)
    if not text:
        return "something"
    return [["something"]] if taken & {int, float} else 7


def _beyond(kind: _Type) -> Iterator[Any]:
    """Values of the type that its limits exclude."""
    if get_origin(kind.kind) is Literal:
        yield f"{get_args(kind.kind)[0]}ish"
        return
    step = 1 if kind.kind is int else 0.5
    if kind.kind is float:
        yield float("inf")
    for limit in kind.limits:
        if isinstance(limit, limits.Ge):
            yield limit.ge - step
        elif isinstance(limit, limits.Gt):
            yield limit.gt
        elif isinstance(limit, limits.Le):
            yield limit.le + step
        elif isinstance(limit, limits.Lt):
            yield limit.lt
        elif isinstance(limit, limits.MinLen) and get_origin(kind.kind) is list:
            yield []
        elif isinstance(limit, limits.MinLen) and get_origin(kind.kind) is dict:
            yield {}
        elif getattr(limit, "pattern", None) or (isinstance(limit, AfterValidator) and kind.kind is str):
            yield "$(touch pwned)"


def placed(content: dict[str, Any], wrong: Malformed) -> dict[str, Any]:
    """The content with what is wrong in its place; sections that lead there are made. The content stays."""
    result = _copied(content)
    here: Any = result
    for part, after in zip(wrong.key, wrong.key[1:], strict=False):
        empty: Any = [] if isinstance(after, int) else {}
        if isinstance(here, list):
            if not here:
                here.append(empty)
            here = here[0]
            continue
        if not isinstance(here.get(part), type(empty)):
            here[part] = empty
        here = here[part]
    last = wrong.key[-1]
    if wrong.instead_of:
        here.pop(wrong.instead_of, None)
    if wrong.value is MISSING:
        here.pop(last, None)
    elif isinstance(here, list):
        here[:1] = [wrong.value]
    else:
        here[last] = {} if wrong.instead_of and wrong.value is None else wrong.value
    return result


def _copied(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _copied(value) for key, value in content.items()}
    return [_copied(value) for value in content] if isinstance(content, list) else content
