"""environment.yml for conda users, generated from pyproject.toml: python -m mlm.environment."""

import tomllib
from pathlib import Path

PROJECT = Path(__file__).parent.parent / "pyproject.toml"


def text() -> str:
    """The content of environment.yml; a test holds the file to it."""
    wanted = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    lines = [
        "# Generated from pyproject.toml by `make environment.yml`; edit that file instead.",
        "name: mlm",
        "channels: [conda-forge]",
        "dependencies:",
        "  - python=3.11",
        "  - git",
        "  - make",
        "  - gxx",
        "  - pip",
        "  - pip:",
        *(f"      - {requirement}" for requirement in wanted),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(text(), end="")
