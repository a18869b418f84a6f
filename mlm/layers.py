"""Layers of settings, each from a file -> one run; problems name the layer that said it. Loads no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mlm import hugging_face, yaml_file
from mlm.config import Run
from mlm.errors import InputError

Layers = list[tuple[Path, str, Mapping[str, Any]]]
"""(file, key prefix, content) of each layer of a merge, in its order."""


def resolve(layers: Layers) -> Run:
    """The run that the layers come to.

    Raises:
        InputError: every problem found, each with the file and key that set the value.
    """
    found = [
        f"{place(layers, 'seed')}: seeds belong in `seeds:` of the experiment, or behind `--seed`; take it out"
        for _, _, changes in layers
        if "seed" in changes
    ]
    merged = hugging_face.resolve(layers)
    dropped: set[str] = set()
    while True:
        try:
            run = Run.model_validate(merged)
            break
        except ValidationError as error:
            wrong = list(yaml_file.problems(error, Run, merged))
            for where, what in wrong:
                if ".".join(where) in dropped:
                    continue  # it is missing because it was wrong
                # A problem between two keys begins with the first of them.
                found.append(f"{place(layers, '.'.join(where) or what.split(' ', 1)[0])}: {what}")
            # Problems between keys show only once each key by itself is right: drop what is not.
            if not all(_drop(merged, where) for where, _ in wrong):
                break
            dropped |= {".".join(where) for where, _ in wrong}
    if found:
        raise InputError(*dict.fromkeys(found))
    return run


def _drop(content: dict[str, Any], where: list[str]) -> bool:
    """Remove a key from nested mappings, or the one of its path that is no mapping."""
    for depth, key in enumerate(where[:-1]):
        if not isinstance(content.get(key), dict):
            where = where[: depth + 1]
            break
        inner = dict(content[key])  # the layers keep theirs
        content[key] = inner
        content = inner
    return bool(where) and content.pop(where[-1], None) is not None


def place(layers: Layers, key: str) -> str:
    """`file: key` of what set the value of a dotted key: the last layer that says most of its path."""
    where = [part for part in key.split(".") if part]
    best, depth_of_best = layers[0], -1
    for layer in layers:
        content: Any = layer[2]
        depth = 0
        while depth < len(where) and isinstance(content, Mapping) and where[depth] in content:
            content = content[where[depth]]
            depth += 1
        if layer[2] and depth >= depth_of_best:
            best, depth_of_best = layer, depth
    file, prefix, _ = best
    key = ".".join(part for part in (prefix, *where) if part)
    return f"{file}: {key}"
