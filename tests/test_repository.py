"""What must agree within the repository."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(("missing", "told"), [("git", "apt-get install git"), ("g++", "apt-get install g++")])
def test_make_says_which_system_package_is_missing(tmp_path: Path, missing: str, told: str) -> None:
    for tool in {"bash", "git", "g++", "python3"} - {missing}:
        (tmp_path / tool).symlink_to(shutil.which(tool) or sys.executable)
    make = shutil.which("make")
    assert make is not None
    done = subprocess.run(
        [make, "system"], cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert told in done.stderr


def test_no_file_names_a_registry_host_or_is_large() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        content = (ROOT / name).read_bytes()
        assert len(content) < 2**20, name
        assert not re.search(rb"https?://[^ ]*(pypi|npmjs|debian)", content), name


def test_every_rule_with_a_command_keeps_a_log() -> None:
    blocks = re.split(r"^ *rule\b", (ROOT / "Snakefile").read_text(), flags=re.MULTILINE)[1:]
    kept = [block for block in blocks if "shell:" in block]
    assert len(kept) == 20
    logs = [re.search(r'log:\n +f?"results/logs/(\w+)/.*\.log",', block) for block in kept]
    assert len({found[1] for found in logs if found}) == len(kept)
    for block in kept:
        assert re.search(r'shell:\n +f?"export MLM_LOG=\{+log:q\}+; python -m (mlm|analysis) ', block), block
