"""What makes two results the same: digests of data, of configuration and of the code behind them."""

import ast
import functools
import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent


def canonical(content: Any) -> str:
    """JSON with one spelling for each value."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(content: Any) -> str:
    """16 hexadecimal digits of SHA-256 over the canonical JSON; names folders and runs."""
    return hashlib.sha256(canonical(content).encode()).hexdigest()[:16]


@functools.cache
def _tree(module: str) -> str:
    tree = ast.parse((PACKAGE.parent / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            # Bare strings are docstrings or attribute notes: they change no behaviour.
            node.body = [  # type: ignore[attr-defined]
                statement
                for statement in body
                if not (
                    isinstance(statement, ast.Expr)
                    and isinstance(statement.value, ast.Constant)
                    and isinstance(statement.value.value, str)
                )
            ]
    return ast.dump(tree)


@functools.cache
def code_hash(modules: tuple[str, ...], packages: tuple[str, ...] = ()) -> str:
    """Digest of what modules do and of the versions of the packages they stand on.

    Comments, docstrings and layout do not count: rewording one costs no training.
    """
    versions = {name: importlib.metadata.version(name) for name in packages}
    return digest({"trees": {name: _tree(name) for name in modules}, "versions": versions})
