"""The command line: everything in order, errors without a traceback, and what the Snakefile asks."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic_results import EFFECTS, EXPERIMENT, REPOSITORY, Synthetic

from analysis import outputs
from mlm.figures import EVERY, KINDS
from mlm.identity import code_hash
from tests import forked


def call(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return forked.run("analysis", words, root, {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"})


def test_commands_write_what_they_say(make: Callable[..., Synthetic]) -> None:
    made = make(seeds=2, effects={arm: EFFECTS[arm] for arm in ("80-10-10", "100-0-0")})
    for command in ("collect", "contrasts"):
        done = call(made.root, command, made.scale, EXPERIMENT)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == outputs.files(command, made.scale, EXPERIMENT)
        assert all((made.root / path).exists() for path in done.stdout.split())


def test_bad_input_ends_with_status_2_and_no_traceback(tmp_path: Path) -> None:
    done = call(tmp_path, "collect", "galaxy", "split")
    assert done.returncode == 2
    assert done.stderr.startswith("error: results/galaxy/study.json: missing")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", outputs.AFTER)
def test_a_commands_modules_are_found_and_load_no_torch(command: str) -> None:
    found = outputs.modules(command)
    assert f"analysis.{command}" in found
    assert "mlm.files" in found
    assert len(code_hash(found)) == 16
    loading = re.compile(r"^(import|from) torch", re.MULTILINE)  # as it is read, not in a function
    assert not [m for m in found if loading.search((REPOSITORY / f"{m.replace('.', '/')}.py").read_text())]


@pytest.mark.parametrize(("command", "before"), outputs.AFTER.items())
def test_a_command_is_told_of_the_code_of_those_before_it(command: str, before: tuple[str, ...]) -> None:
    assert all({*outputs.modules(one)} <= {*outputs.modules(command)} for one in before)
    snakefile = (REPOSITORY / "Snakefile").read_text()
    (code,) = re.findall(rf'outputs\.modules\("{command}"\)', snakefile)
    rule = re.split(r"^ *rule\b", snakefile[: snakefile.index(code)], flags=re.MULTILINE)[-1]
    read = {*re.findall(r"rules\.(\w+)\.output", rule)}
    for one in re.findall(r"for c in \(([^)]*)\)", rule):
        read |= {*re.findall(r'"(\w+)"', one)}
    read |= {*re.findall(r'outputs\.files\("(\w+)", scale, "\{experiment\}"\)', rule)}
    assert read - {command} == {*before}


def test_sources_of_the_paper_exist_and_have_the_captions_that_it_prints() -> None:
    assert all((REPOSITORY / path).exists() for path in outputs.sources())
    captions = {f"analysis/captions/{name}.rst" for name in (*EVERY, *KINDS)}
    assert captions <= {*outputs.sources()} and captions <= {*outputs.report_sources()}
