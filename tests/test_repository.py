"""What must agree within the repository."""

import re
import tomllib
from pathlib import Path

from mlm import environment

ROOT = Path(__file__).parents[1]


def _dependencies() -> list[str]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]


def test_environment_yml_is_generated_from_pyproject() -> None:
    assert (ROOT / "environment.yml").read_text() == environment.text(), "run `make environment.yml`"


def test_every_dependency_is_pinned_exactly_and_without_a_local_version() -> None:
    lines = (ROOT / "requirements.lock").read_text().split()
    pinned = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower(): line.split("==")[1] for line in lines}
    for requirement in _dependencies():
        name = re.sub(r"[-_.]+", "-", re.split(r"[<>=!~]", requirement)[0]).lower()
        assert name in pinned, f"run `make lock`: {requirement} is not in requirements.lock"
    assert pinned["torch"] == "2.13.0"
    assert not [version for version in pinned.values() if "+" in version]
