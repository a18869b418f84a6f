"""results/<scale>/registration/<experiment>.json: what an experiment stated when its first run began.

Planning writes the file, anew as long as no run of the experiment has begun; the first run puts its name there,
and from then on nothing replaces it. Contrasts that are not in it were changed since. Loads no torch.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlm.errors import Damaged, InputError
from mlm.files import file_sha256, locked, read_json, write_json
from mlm.history import WORK_TREE, History, Row, Stated, scale_file
from mlm.layout import EXPERIMENTS, RESULTS


def path_of(scale: str, name: str) -> Path:
    """Where an experiment is registered."""
    return RESULTS / scale / "registration" / f"{name}.json"


def write(scale: str, names: Iterable[str]) -> None:
    """Register experiments as their files state them now; those that have begun stay as they are."""
    history = History(scale)
    for name in names:
        path = path_of(scale, name)
        with locked(path.with_name(".lock")):
            if _begun(scale, name) is None and not _is_there(path, history, name):
                write_json(path, _record(history, name))


def begin(scale: str, name: str, run: str) -> None:
    """The first run of an experiment begins: from now on its registration stays as it is."""
    with locked(path_of(scale, name).with_name(".lock")):
        if _begun(scale, name) is not None or not (EXPERIMENTS / f"{name}.yaml").exists():
            return
        path = path_of(scale, name)
        known = read_json(path, _remedy(path)) if path.exists() else _record(History(scale), name)
        write_json(path, known | {"first_run": run})


def registered(scale: str, name: str) -> Stated | None:
    """What an experiment stated when its first run began; None before that, or where nothing tells."""
    content = _begun(scale, name)
    return _stated(content, path_of(scale, name)) if content else None


def problems(scale: str, contrasts: Mapping[str, Sequence[dict[str, Any]]]) -> Iterator[str]:
    """Experiments whose contrasts are no longer those of before the runs, told before more are paid for.

    Args:
        contrasts: of each experiment, as they are stated now.
    """
    history = History(scale)
    for name, rows in contrasts.items():
        file, then = EXPERIMENTS / f"{name}.yaml", registered(scale, name)
        if then is not None and {*map(Row.of, rows)} != {*then.contrasts}:
            yield (
                f"{file}: contrasts: changed since the first run began ({path_of(scale, name)} has them as "
                "they were); what is new or altered is marked post hoc, what is gone is named below each table"
            )
        elif then is None and history.uncommitted(name):
            yield (
                f"{file}: contrasts: are in no commit yet, so nothing will show that they came before the "
                "runs, and they will be marked post hoc; commit the file first"
            )


def _is_there(path: Path, history: History, name: str) -> bool:
    """Whether there is a record of the files as they are."""
    if not path.exists():
        return False
    content = read_json(path, _remedy(path))
    return bool(
        content.get("git_commit") == history.head and content.get("file_sha256") == _hashes(history, name)
    )


def _now(history: History, name: str) -> Stated:
    """What the file states as it is: what is registered now is not replaced, so half of it will not do."""
    if (stated := history.stated(WORK_TREE, name)) is None:
        raise InputError(
            f"{EXPERIMENTS / name}.yaml: cannot be read, so what it states cannot be kept; was it "
            "being written? Run the same command again"
        )
    return stated


def _hashes(history: History, name: str) -> dict[str, str]:
    paths = (*_now(history, name).files, scale_file(history.scale))
    return {path.as_posix(): file_sha256(path) for path in paths if path.exists()}


def _record(history: History, name: str) -> dict[str, Any]:
    stated = _now(history, name)
    return {
        "experiment": name,
        "scale": history.scale,
        "file_sha256": _hashes(history, name),
        "contrasts": [row._asdict() for row in stated.contrasts],
        "seeds": list(stated.seeds),
        "git_commit": history.head,
        "contrasts_changed_in": history.changed_in(name),
        "contrasts_uncommitted": history.uncommitted(name),
        "first_run": None,
    }


def _begun(scale: str, name: str) -> dict[str, Any] | None:
    """The record of an experiment that has begun."""
    path = path_of(scale, name)
    if not path.exists():
        return None
    content = read_json(path, _remedy(path))
    if not isinstance(content, dict) or "first_run" not in content:
        raise Damaged(f"{path}: damaged; {_remedy(path)}")
    return content if content["first_run"] else None


def _stated(content: dict[str, Any], path: Path) -> Stated:
    try:
        return Stated(tuple(map(Row.of, content["contrasts"])), tuple(content["seeds"]))
    except (KeyError, TypeError) as error:
        raise Damaged(f"{path}: damaged ({error!r}); {_remedy(path)}") from None


def _remedy(path: Path) -> str:
    return f"restore it; without it nothing here shows what {path.stem} stated when it began"
