"""YAML that is read strictly: safe, no key twice, and every problem of a file in one message."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from mlm.errors import InputError


class Strict(BaseModel):
    """A configuration section: frozen, typed, and without room for a misspelt key."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=Strict)


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} is not text; write it in quotes",
                    problem_mark=key_node.start_mark,
                )
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"`{key}` is given twice; remove or rename one",
                    problem_mark=key_node.start_mark,
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 1e-3 as text because it has no point; people mean the number.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def parse(text: str, source: str) -> Any:
    """Parse YAML text; problems name `source` and the line."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{source}{line}: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{source}: not readable as YAML: {str(error).splitlines()[0]}") from None


def read(path: Path, instead: str = "") -> dict[str, Any]:
    """The mapping in a YAML file; `instead` says what to do when there is no such file."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. {instead}".rstrip()) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
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


def validated(model: type[Model], content: Any, where: str) -> Model:
    """The content as a checked section; every problem names `where` and the key."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        found = [".".join(key) + ": " + what if key else what for key, what in problems(error, model, content)]
        raise InputError(*(f"{where}: {problem}" for problem in found)) from None


def problems(error: ValidationError, model: type[BaseModel], content: Any) -> Iterator[tuple[list[str], str]]:
    """(key path, message with remedy) for every problem pydantic found in `content`."""
    for item in error.errors(include_url=False):
        where = _path(item["loc"], content)
        context, kind, value = item.get("ctx", {}), item["type"], item.get("input")
        shown = repr(value) if len(repr(value)) < 60 else _kind(value)
        if kind == "extra_forbidden":
            known = _known_keys(model, where[:-1])
            near = difflib.get_close_matches(where[-1], known, 1)
            hint = f"did you mean `{near[0]}`? " if near else ""
            message = f"unknown key; {hint}known keys: {', '.join(known)}"
        elif kind == "missing":
            message = "missing; this key is required"
        elif kind == "value_error":
            message = str(context.get("error", item["msg"]))
        elif kind in ("greater_than_equal", "greater_than", "less_than_equal", "less_than"):
            message = f"is {shown}; {item['msg'].removeprefix('Input ')}"
            if kind.startswith("less") and context.get("le") == 1.0:
                message += f" (a share: {value} % is written {_share(value)})"
        elif kind == "literal_error":
            message = f"is {shown}; choose one of {context['expected']}"
        else:
            message = f"is {shown} ({_kind(value)}); {item['msg'].removeprefix('Input ')}"
        yield where, message


def _path(location: tuple[int | str, ...], content: Any) -> list[str]:
    """Keys as a person wrote them: pydantic puts the `kind` of a section between its key and theirs."""
    path: list[str] = []
    tag: Any = None
    for part in location:
        if tag is not None and part == tag:
            tag = None  # a key of the same name may follow
            continue
        if str(part).startswith("<"):  # of a choice between a section and a plain value
            continue
        path.append(str(part))
        content = content.get(part) if isinstance(content, dict) else None
        tag = content.get("kind") if isinstance(content, dict) else None
    return path


def _share(value: Any) -> str:
    return f"{value / 100:g}" if isinstance(value, int | float) else "as a number from 0 to 1"


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", type(None): "nothing", bool: "a yes/no"}
    return names.get(type(value), f"a number ({type(value).__name__})")


def _known_keys(model: type[BaseModel], where: Sequence[str]) -> list[str]:
    found: type[BaseModel] = model
    for part in where:
        field = found.model_fields.get(part)
        options = [field.annotation, *getattr(field.annotation, "__args__", ())] if field else []
        inner = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
        found = inner[0] if inner else found
    return sorted(found.model_fields)
