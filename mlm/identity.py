"""What makes two results the same: digests of data, of configuration and of the code behind them."""

import ast
import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlm.errors import InputError

PACKAGE = Path(__file__).parent
BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
"""Where a node of Python's syntax has statements, or what holds them."""


def python_path() -> str:
    """PYTHONPATH for a process that is started: as it is here, with this package before all else."""
    return os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))


def canonical(content: Any) -> str:
    """JSON with one spelling for each value."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(content: Any) -> str:
    """16 hexadecimal digits of SHA-256 over the canonical JSON; names folders and runs."""
    return hashlib.sha256(canonical(content).encode()).hexdigest()[:16]


def syntax(source: str | bytes) -> str:
    """What Python source does, as text: its syntax tree without comments, docstrings and layout."""
    return _text(ast.parse(source))


def _text(tree: ast.Module) -> str:
    """A module's syntax as `syntax` gives it; the tree loses its docstrings."""
    ahead: list[Any] = [tree]
    while ahead:  # blocks hold statements, and no expression does: most of the tree need not be looked at
        node = ahead.pop()
        if isinstance(body := getattr(node, "body", None), list):
            # Bare strings are docstrings or attribute notes: they change no behaviour.
            node.body = [
                statement
                for statement in body
                if not (
                    isinstance(statement, ast.Expr)
                    and isinstance(statement.value, ast.Constant)
                    and isinstance(statement.value.value, str)
                )
            ]
        for block in BLOCKS:
            ahead += getattr(node, block, ())
    return ast.dump(tree)


@functools.cache
def _tree(module: str) -> str:
    return syntax((PACKAGE.parent / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))


@functools.cache
def code_hash(modules: tuple[str, ...], packages: tuple[str, ...] = ()) -> str:
    """Digest of what modules do and of the versions of the packages they stand on.

    Comments, docstrings and layout do not count: rewording one costs no training.
    """
    versions = {name: importlib.metadata.version(name) for name in packages}
    return digest({"trees": {name: _tree(name) for name in modules}, "versions": versions})


def forget() -> None:
    """Read sources anew from now on, to see whether they changed."""
    for known in (_tree, code_hash):
        known.cache_clear()


def source_digest(module: str) -> str:
    """Digest of what a module outside this package does; nothing is imported for it.

    Followed through `import` statements are the modules of its own package and those beside it in the same
    folder; neither installed packages nor this one.

    Raises:
        InputError: there is no Python source.
    """
    if (first := _source(module)) is None:
        raise InputError(f"`{module}` has no Python source to make a digest of; wrap it in a function")
    trees: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file = _source(name)
        package = name.rpartition(".")[0]
        same = name.partition(".")[0] == module.partition(".")[0]
        beside = file and _folder(name, file) == _folder(module, first)
        followed = file and is_users(file) and (same or beside)
        if file and name not in trees and (followed or name == module):
            try:
                trees[name], imported = _read(file.read_bytes(), name if file.stem == "__init__" else package)
            except (SyntaxError, ValueError) as error:
                raise InputError(f"{file}: cannot be read as Python: {error}; correct it") from None
            waiting += imported
        if package:
            waiting.append(package)  # it is imported before what is in it
    return digest(trees)


@functools.cache
def _read(source: bytes, package: str) -> tuple[str, tuple[str, ...]]:
    """What a module of `package` does, and what it imports; a study asks for each of a file's parts."""
    tree = ast.parse(source)
    return _text(tree), tuple(_imports(tree, package))


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Full names of all modules, and of what might be one, that a module of `package` imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            with contextlib.suppress(ImportError):  # beyond the top, in a function never called
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                yield from (f"{base}.{alias.name}" for alias in node.names)


def _source(module: str) -> Path | None:
    """The file of a module; found without importing it or the packages it is in."""
    top, *inner = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # __main__
        return None
    if spec is None:
        return None
    if inner:
        stems = [Path(folder, *inner) for folder in spec.submodule_search_locations or ()]
        files = [file for stem in stems for file in (stem / "__init__.py", stem.with_suffix(".py"))]
    else:
        files = [Path(spec.origin or "")]
    return next((file for file in files if file.suffix == ".py" and file.is_file()), None)


def _folder(module: str, file: Path) -> Path:
    """The folder that a module's top-level package or module lies in."""
    return file.parents[module.count(".") + (file.stem == "__init__")]


def is_users(file: Path) -> bool:
    """Whether a file is the user's own and none of an installed package, of Python or of this package."""
    installed = {"site-packages", "dist-packages"} & set(file.parts) or not file.is_file()
    return not installed and not any(
        file.is_relative_to(folder) for folder in (sysconfig.get_path("stdlib"), PACKAGE)
    )
