"""Strategies, schedules, objectives, probes and encoders of the user's own, by Python path. Loads no torch.

A path is `module.of.theirs:name`; the current folder and PYTHONPATH are searched. docs/plugins.md shows one.
"""

import contextlib
import copy
import difflib
import functools
import importlib
import inspect
import math
import platform
import re
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlm import config, golden, identity
from mlm.errors import InputError
from mlm.files import write_atomically

if TYPE_CHECKING:
    from mlm.encoder import Encoder
    from mlm.vocabulary import Tokenizer

Kind = Literal["strategy", "schedule", "objective", "probe", "encoder"]
KIND_OF: dict[str, Kind] = {
    "masking.strategy": "strategy",
    "objective": "objective",
    "encoder.architecture": "encoder",
}
"""Key of a run -> what stands there; every `shape` is a schedule."""
GRID = 1000
"""A schedule is tried at 0 and at the ends of so many equal parts of a run."""


def _contract(kind: Kind) -> dict[str, Callable[..., Any]]:
    """The methods of a plug-in that will be called, each as a function with the parameters it will get."""
    if kind == "encoder":
        from mlm.encoder import Encoder

        return {name: getattr(Encoder, name) for name in ("__init__", "hidden", "logits", "forward")}
    if kind == "objective":
        from mlm.objectives import Objective

        return {"counts": Objective.counts, "sums": Objective.sums}
    called: dict[str, Callable[..., Any]] = {
        "strategy": lambda self, tokens, masking, uniform, *, n_tokens, begins_word, step: ...,
        "schedule": lambda self, progress: ...,
        "probe": lambda self, encoder, tokenizer, run: ...,
    }
    return {"__call__": called[kind]}


def load(path: str, kind: Kind, where: str) -> Any:
    """The plug-in at a path, checked; one object in a process, so that asking again costs nothing.

    Args:
        path: `module:name`.
        kind: decides the parameters. A class is constructed without arguments, but an encoder's is returned.
        where: the file and key that ask for it, for errors.

    Raises:
        InputError: no such module or name, one that fails, or one that cannot be called as it will be.
    """
    try:
        return _load(path, kind)
    except InputError as error:
        raise InputError(f"{where}: {path}: {error}") from None


@functools.cache
def _load(path: str, kind: Kind) -> Any:
    module, name = path.split(":")
    found = _named(_imported(module), name)
    if kind == "encoder":
        from torch import nn

        if not (isinstance(found, type) and issubclass(found, nn.Module)):
            raise InputError(f"`{name}` must be a class, most simply a subclass of mlm.encoder.Encoder")
    elif isinstance(found, type):
        try:
            found = found()
        except Exception as error:
            raise InputError(f"`{name}()`, without arguments, fails with {_told(error)}; correct it") from None
    for method, contract in _contract(kind).items():
        called = name if method in ("__call__", "__init__") else f"{name}.{method}"
        wanted = _parameters(contract)
        member = found if method == "__call__" else getattr(found, method, None)
        if not callable(member):
            problem = f"is of type {type(found).__name__}" if called == name else f"has no `{method}`"
            raise InputError(f"`{called}{wanted}` will be called, but `{name}` {problem}; give one that can be")
        try:
            taken = _parameters(member, bound=kind != "encoder")
        except ValueError:
            raise InputError(f"the parameters of `{called}` cannot be read; wrap it in a function") from None
        if not _fits(taken, wanted):
            raise InputError(f"`{called}{wanted}` will be called, but its parameters are {taken}; change them")
    identity.source_digest(module)  # what has none can be no part of a run
    return found


def _imported(module: str) -> Any:
    _see_current_folder()
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise InputError(
                f"there is no module `{error.name}`; correct the path, or add the folder that "
                f"`{module.partition('.')[0]}` lies in to PYTHONPATH"
            ) from None
        raise InputError(f"importing `{module}` fails with {_told(error)}; correct it") from None


def _see_current_folder() -> None:
    """The study's folder comes first in every process, as it does under `python -m mlm`."""
    if not {"", str(Path.cwd())} & set(sys.path):
        sys.path.insert(0, str(Path.cwd()))


def _named(module: Any, name: str) -> Any:
    if not hasattr(module, name):
        public = [
            known for known, thing in vars(module).items() if known[0] != "_" and not inspect.ismodule(thing)
        ]
        near = difflib.get_close_matches(name, public, 3)
        hint = f"near are: {', '.join(near)}" if near else f"there are: {', '.join(public) or 'none'}"
        raise InputError(f"`{module.__name__}` has no `{name}`; {hint}")
    return getattr(module, name)


def _parameters(function: Callable[..., Any], bound: bool = False) -> inspect.Signature:
    """Without annotations, and without `self` where it is not bound to an object."""
    found = list(inspect.signature(function).parameters.values())[not bound :]
    return inspect.Signature([parameter.replace(annotation=inspect.Parameter.empty) for parameter in found])


def _fits(taken: inspect.Signature, wanted: inspect.Signature) -> bool:
    """Whether the wanted calls, with all parameters and with the required ones alone, can be made."""
    everything = list(wanted.parameters.values())
    for given in (everything, [p for p in everything if p.default is p.empty]):
        positional = [None for p in given if p.kind is not p.KEYWORD_ONLY]
        try:
            taken.bind(*positional, **{p.name: None for p in given if p.kind is p.KEYWORD_ONLY})
        except TypeError:
            return False
    return True


def _told(error: BaseException) -> str:
    """An exception's type, message and place: the last line of the user's own that was at work."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    own = [f for f in traceback.extract_tb(error.__traceback__) if identity.is_users(Path(f.filename))]
    place = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {error}{place}"


def check_schedule(path: str, where: str) -> None:
    """Refuse a schedule that leaves [0, 1] anywhere on a grid, or gives no number.

    Raises:
        InputError: names the progress and the value.
    """
    schedule = load(path, "schedule", where)
    for part in range(GRID + 1):
        progress = part / GRID
        try:
            value = float(schedule(progress))
        except Exception as error:
            raise InputError(f"{where}: {path}: fails at progress {progress:g} with {_told(error)}") from None
        if not 0 <= value <= 1:
            raise InputError(
                f"{where}: {path}: is {value!r} at progress {progress:g}; it must stay in [0, 1], "
                "for instance by min(max(value, 0.0), 1.0)"
            )


def check(run: config.Run, where: str | Callable[[str], str]) -> None:
    """Load and check every plug-in of a run, once for each state of its source.

    Args:
        where: the file, or a function from a key to the file and key that set it.

    Raises:
        InputError: every problem found.
    """
    problems: list[str] = []
    for key, path in run.plugins.items():
        place = where(key) if callable(where) else f"{where}: {key}"
        checks = _check_decay if key == "optimizer.decay_shape" else check_schedule
        try:
            if key.endswith("shape"):
                _once(key, path, partial(checks, path, place))
            else:
                _once(key, path, partial(load, path, KIND_OF[key], place))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(*problems)


def _check_decay(path: str, where: str) -> None:
    check_schedule(path, where)
    if (left := load(path, "schedule", where)(1.0)) != 1:
        raise InputError(
            f"{where}: {path}: is {left!r} at 1; it is given what is left of the decay, 1 at its "
            "begin and 0 at its end, and must be 1 where it begins"
        )


def check_probe(path: str, where: str, code: str) -> None:
    """Load and check a probe, once for each state of its source and of the code that it may call.

    Args:
        code: digest of that code.

    Raises:
        InputError: as `load`.
    """
    _once("probe", path, partial(load, path, "probe", where), code)


def _once(key: str, path: str, check: Callable[[], object], code: str = "") -> None:
    """Check a plug-in, unless it passed as its source is now: most load torch, which takes longer than a plan.

    What passed is remembered beside this source's golden runs. A job checks what it loads again, but for a
    schedule's values where it never goes.
    """
    try:
        state = [key, path, source_digest(path), code, platform.python_version()]
        passed = golden.folder() / "plugins" / identity.digest(state)
    except InputError:
        check()  # says more
        raise
    if not passed.exists():
        check()
        write_atomically(passed, "")


def take_probe(
    path: str, encoder: "Encoder", tokenizer: "Tokenizer", run: config.Run, where: str
) -> dict[str, float]:
    """What a probe of the user's own measures: key -> finite number.

    Raises:
        InputError: it gives something else.
    """
    take = load(path, "probe", where)
    try:
        own = copy.deepcopy(encoder)  # what it does to the encoder must not reach what is measured after it
    except Exception as error:
        raise InputError(
            f"{where}: {path}: is given a copy of the encoder, and {run.encoder.architecture} cannot be copied "
            f"({_told(error)}); keep nothing in it that `copy.deepcopy` refuses"
        ) from None
    given = take(own, tokenizer, run)
    if not isinstance(given, dict) or not given:
        raise InputError(f"{where}: {path}: gives {given!r}; it must give a dictionary of numbers")
    values: dict[str, float] = {}
    for key, value in given.items():
        if not (isinstance(key, str) and re.fullmatch(r"\w+(\.\w+)*", key)):
            raise InputError(f"{where}: {path}: key {key!r}; use letters, digits and `_`, parts joined by `.`")
        with contextlib.suppress(TypeError, ValueError):
            values[key] = float(value)
        if not math.isfinite(values.get(key, math.nan)):
            raise InputError(f"{where}: {path}: {key} is {value!r}; give a finite number, or leave it out")
    return values


def digests(run: config.Run) -> dict[str, str]:
    """Path -> source digest of every plug-in of a run."""
    return {path: source_digest(path) for path in sorted(set(run.plugins.values()))}


def source_digest(path: str) -> str:
    """Digest of what a plug-in's source does; nothing is imported for it.

    Raises:
        InputError: there is no Python source.
    """
    try:
        _see_current_folder()
        return identity.source_digest(path.partition(":")[0])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
