"""Every command that the README shows is run, the long ones at smoke scale or dry."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.pipeline.copies import ROOT, Copy

RUN_ELSEWHERE = {
    "git clone REPOSITORY mlm && cd mlm": "a clean clone is what runs these tests",
    "make": "the smoke pipeline below, at another scale; its set-up is that of `make test`",
    "source .venv/bin/activate": "the environment of these tests",
}
AFTER_A_PILOT = "python -m mlm power split"
LONG = {"snakemake --cores all", "snakemake --cores all split"}


def commands() -> list[str]:
    """The lines of the README's shell blocks, without their comments."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = [
        " ".join(shlex.split(line, comments=True, posix=False))
        for block in blocks
        for line in block.splitlines()
    ]
    return [line for line in lines if line]


def test_the_exceptions_are_still_in_the_readme() -> None:
    assert {*RUN_ELSEWHERE, *LONG, AFTER_A_PILOT} <= set(commands())


@pytest.fixture(scope="module")
def here(smoke: Copy, tmp_path_factory: pytest.TempPathFactory) -> Copy:
    folder = tmp_path_factory.mktemp("readme") / "copy"
    shutil.copytree(smoke.folder, folder, symlinks=True)
    return Copy(folder)


@pytest.mark.parametrize("command", [c for c in commands() if c not in RUN_ELSEWHERE])
def test_command(here: Copy, command: str) -> None:
    words = shlex.split(command) + (["--dry-run"] if command in LONG else [])
    if command == AFTER_A_PILOT:  # which takes longer than the study; done in tests/mlm/test_power_command.py
        done = here.run(*words, ok=False)
        assert done.returncode == 2 and "split-pilot" in done.stderr
        return
    done = here.run(*words)
    assert (done.stdout + done.stderr).strip()


def test_fill_answers_and_mask_shows_what_was_realised(here: Copy) -> None:
    told = here.run("python", "-m", "mlm", "fill", "Shall I compare thee to a [MASK] day?").stdout
    assert re.search(r"position \d+: .* %", told)
    shown = here.run("python", "-m", "mlm", "mask", "--set", "split={mask: .5, random: .5}").stdout
    realised = {
        row[0]: float(row[2]) for row in re.findall(r"(\w+) +│ +(\S+) +│ +(\S+)", shown) if row[0] != ""
    }
    assert realised["same"] == 0
    assert abs(realised["mask"] - 0.5) < 0.03
    assert abs(realised["random"] - 0.5) < 0.03


def test_the_picture_exists_and_the_tree_names_files_that_exist() -> None:
    text = (ROOT / "README.md").read_text()
    for path in re.findall(r"\]\(([^)#]+)\)", text):
        assert path.startswith("https://") or (ROOT / path).exists(), path
    tree = text.split("## The tree")[1].split("```")[1]
    inside = re.findall(r"^(?:([a-z]+)/|  ([a-z_]+\.py))", tree, re.MULTILINE)
    folder, known = "", 0
    for opened, name in inside:
        folder = opened or folder
        if name:
            assert (ROOT / folder / name).exists(), f"{folder}/{name}"
            known += 1
    assert known > 10
    assert Path(ROOT / "docs").is_dir()
