"""YAML that is read strictly: safe, no key twice, and every problem of a file in one message."""

import contextlib
import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from mlm.errors import InputError


class Strict(BaseModel):
    """A configuration section: frozen, typed, and without room for a misspelt key."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=Strict)


MOST_VALUES = 100_000
"""Of a file; the largest here have some hundreds."""
OPENING, MOST_OPENED = "[{-?", 1_000
"""What nests in a line, and how often a text has it at most for the loader that asks not how deep it is."""
_PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map")}
_NUMBERS = {f"tag:yaml.org,2002:{kind}" for kind in ("int", "float")}
_ANCIENT = re.compile(r"[-+]?(0[0-9_]+|[0-9][0-9_]*(:[0-9]+)+(\.[0-9_]*)?)")
"""What YAML 1.1 reads as a number to the base of 8 or 60, and hardly anybody means so."""
_STRANGE = re.compile("[\x00\ud800-\udfff]")


class _Refusal(yaml.MarkedYAMLError):
    """What YAML would take."""


class _Strict(yaml.constructor.SafeConstructor):
    """What a loader takes, and what it refuses."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _Refusal(
                    problem=f"key {key!r} is not text; write it in quotes",
                    problem_mark=key_node.start_mark,
                )
            if key in seen:
                raise _Refusal(
                    problem=f"`{key}` is given twice; remove or rename one",
                    problem_mark=key_node.start_mark,
                )
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Plain values alone: no tag makes anything else of them, and no text becomes a date."""
        if node.tag not in _PLAIN:
            shown = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise _Refusal(
                problem=f"{shown} is not read here; write text (in quotes), a number, true, false or null",
                problem_mark=node.start_mark,
            )
        if isinstance(node, yaml.ScalarNode) and node.tag in _NUMBERS and _ANCIENT.fullmatch(node.value):
            number = super().construct_object(node, deep)
            if ":" not in node.value and number == int(node.value.replace("_", "")):
                return number  # 007
            raise _Refusal(
                problem=f"{node.value} is {number} in YAML, by eights or sixties; write the number that you "
                "mean, or put text in quotes",
                problem_mark=node.start_mark,
            )
        return super().construct_object(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        """Text that is not what can be written to a file or be its name is refused where it stands."""
        value = super().construct_scalar(node)
        if isinstance(value, str) and (strange := _STRANGE.search(value)):
            raise _Refusal(
                problem=f"U+{ord(strange[0]):04X} is no character of a text; take it out",
                problem_mark=node.start_mark,
            )
        return value

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()  # type: ignore[misc]
        if node is not None:
            _size(node, {})
        return node


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Values in a node, itself included.

    What `*names` repeat counts each time, so that a few lines do not come to billions of values.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1
    if (size := known.get(id(node))) is None:
        known[id(node)] = 0  # not done
        inside = (one for entry in node.value for one in (entry if isinstance(entry, tuple) else (entry,)))
        known[id(node)] = size = 1 + sum(_size(one, known) for one in inside)
    problem = ""
    if size == 0:
        problem = "repeats itself within itself; take the `*name` out"
    elif size > MOST_VALUES:
        problem = f"comes to more than {MOST_VALUES:,} values; repeat less by `*names`"
    if problem:
        raise _Refusal(problem=problem, problem_mark=node.start_mark)
    return size


class _Loader(_Strict, yaml.SafeLoader):
    """Tells best what is wrong."""


class _Fast(_Strict, yaml.CSafeLoader):
    """Nine times as fast, by libyaml, which PyYAML's wheels and conda's packages have."""


# YAML 1.1 reads 1e-3 as text because it has no point; people mean the number.
for loader in (_Loader, _Fast):
    loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )


def parse(text: str, source: str) -> Any:
    """Parse YAML text; problems name `source` and the line."""
    if sum(map(text.count, OPENING)) < MOST_OPENED:
        with contextlib.suppress(yaml.YAMLError, RecursionError, ValueError, LookupError):
            return yaml.load(text, Loader=_Fast)  # noqa: S506 - a SafeLoader
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        remedy = "" if isinstance(error, _Refusal) else "; correct it there, it is no YAML"
        raise InputError(f"{source}{line}: {error.problem}{remedy}") from None
    except RecursionError:
        raise InputError(f"{source}: not readable as YAML: goes too deep; close its brackets") from None
    except (yaml.YAMLError, ValueError, LookupError) as error:  # the last of `!!bool x`
        told = str(error).partition("\n")[0]
        raise InputError(f"{source}: not readable as YAML: {told}; correct it") from None


def read(path: Path, instead: str = "") -> dict[str, Any]:
    """The mapping in a YAML file; `instead` says what to do when there is no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. {instead}".rstrip()) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; put a readable file there") from None
    content = parse(text, str(path))
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected `key: value` lines, found {_kind(content)}")
    return content


def merge(*layers: Mapping[str, Any], whole: Sequence[str] = ("split",)) -> dict[str, Any]:
    """Later layers win, key by key; the keys in `whole` are replaced as a unit.

    A corruption split is such a unit: {mask: 1} over {mask: .8, same: .1, random: .1} means
    only masks, not shares that add up to 1.2.

    >>> merge({"a": {"b": 1, "c": 2}}, {"a": {"c": 3}})
    {'a': {'b': 1, 'c': 3}}
    """
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old = result.get(key)
            if isinstance(old, dict) and isinstance(value, dict) and key not in whole:
                result[key] = merge(old, value, whole=whole)
            else:
                result[key] = value
    return result


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value of a tree of mappings.

    >>> flat({"masking": {"rate": 0.3}, "seed": 1})
    {'masking.rate': 0.3, 'seed': 1}
    """
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves


def validated(model: type[Model], content: Any, where: str, section: str = "") -> Model:
    """The content as a checked section; every problem names `where` and the key.

    Args:
        section: the key of the section, if it is a part of what `where` names.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        above = [section] if section else []
        found = ((".".join((*above, *key)), what) for key, what in problems(error, model, content))
        raise InputError(
            *(f"{where}: {key}: {what}" if key else f"{where}: {what}" for key, what in found)
        ) from None


def problems(error: ValidationError, model: type[BaseModel], content: Any) -> Iterator[tuple[list[str], str]]:
    """(key path, message with remedy) for every problem pydantic found in `content`."""
    for item in error.errors(include_url=False):
        where, beside = _place(item["loc"], model, content)
        context, kind, value = item.get("ctx", {}), item["type"], item.get("input")
        shown = repr(value) if len(repr(value)) < 60 else _kind(value)
        said = item["msg"].removeprefix("Input ")
        if kind == "extra_forbidden":
            known = sorted(key for one in beside for key in one.model_fields)
            near = difflib.get_close_matches(where[-1], known, 1)
            hint = f"did you mean `{near[0]}`? " if near else ""
            message = f"unknown key; {hint}known keys: {', '.join(known)}"
        elif kind == "missing":
            message = "missing; this key is required"
        elif kind == "value_error":
            message = str(context.get("error", item["msg"]))
        elif kind in ("greater_than_equal", "greater_than", "less_than_equal", "less_than"):
            message = f"is {shown}; {said}"
            if kind.startswith("less") and context.get("le") == 1.0:
                message += f" (a share: {value} % is written {_share(value)})"
        elif kind == "literal_error":
            message = f"is {shown}; choose one of {context['expected']}"
        elif kind in ("union_tag_not_found", "union_tag_invalid"):
            where = [*where, "kind"]
            given = value if isinstance(value, dict) else {}
            near = difflib.get_close_matches("kind", given, 1)
            found = f"is {given['kind']!r}" if "kind" in given else "missing"
            hint = f"did you mean it by `{near[0]}`? " if near and near != ["kind"] else ""
            choice = ", ".join(repr(name) for one in beside for name in _tags(one))
            message = f"{found}; {hint}choose one of {choice}"
        elif kind == "string_pattern_mismatch":
            message = f"is {shown}; write it so that it matches {context['pattern']}"
        elif kind == "too_short":
            message = f"is {shown}; give {context['min_length']} or more"
        elif kind in ("model_type", "model_attributes_type", "dict_type"):
            message = f"is {shown} ({_kind(value)}); give a section of `key: value` lines"
        else:
            message = f"is {shown} ({_kind(value)}); {said}"
        yield where, message


def _place(
    location: tuple[int | str, ...], model: type[BaseModel], content: Any
) -> tuple[list[str], list[type[BaseModel]]]:
    """The keys of a value as a person wrote them, and the sections that may stand there or that it is a key of.

    Pydantic puts the `kind` of a section, where that tells which of several it is, between its key and theirs.
    """
    path: list[str] = []
    may_be: list[Any] = [model]
    sections: list[type[BaseModel]] = [model]
    tag: Any = None
    for part in location:
        if (tag is not None and part == tag) or str(part).startswith("<") or part == "[key]":
            tag = None  # a key of the same name may follow
            continue
        path.append(str(part))
        chosen = _sections(may_be, content)
        if chosen:
            sections = chosen
            may_be = [one for section in chosen for one in _options(section.model_fields.get(str(part)))]
        else:
            may_be = [one for option in may_be for one in _options(*get_args(option)[-1:])]
        inside = isinstance(content, list) and isinstance(part, int) and part < len(content)
        content = content[part] if inside or (isinstance(content, dict) and part in content) else None
        several = _sections(may_be, None)
        tag = content.get("kind") if isinstance(content, dict) and len(several) > 1 else None
        if part == location[-1] and several:
            sections = several
    return path, sections


def _options(annotation: Any = None) -> list[Any]:
    """The types that a value may have."""
    if isinstance(annotation, FieldInfo):
        annotation = annotation.annotation
    if get_origin(annotation) is Annotated:
        return _options(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [one for option in get_args(annotation) for one in _options(option)]
    return [annotation]


def _sections(may_be: Sequence[Any], content: Any) -> list[type[BaseModel]]:
    """Those of the types that are sections; of several the one that the content's `kind` tells, if it does."""
    found = [one for one in may_be if isinstance(one, type) and issubclass(one, BaseModel)]
    kind = content.get("kind") if isinstance(content, dict) else None
    return [one for one in found if len(found) > 1 and kind in _tags(one)] or found


def _tags(section: type[BaseModel]) -> tuple[Any, ...]:
    kind = section.model_fields.get("kind")
    return get_args(kind.annotation) if kind else ()


def _share(value: Any) -> str:
    return f"{value / 100:g}" if isinstance(value, int | float) else "as a number from 0 to 1"


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", type(None): "nothing", bool: "a yes/no"}
    number = "a number" if isinstance(value, int | float) else "no text"  # a date, for instance
    return names.get(type(value), f"{number} ({type(value).__name__})")
