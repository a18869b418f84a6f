"""What outlived the Snakemake that started it is ended and told of; everything else is left alone."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlm import orphans

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
MEEK = "import time; print(flush=True); time.sleep(600)"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Processes by what they are, and the mark of a Snakemake that is dead on some of them."""
    gone = subprocess.Popen([sys.executable, "-c", MEEK], stdout=subprocess.PIPE)
    gone.stdout.readline()
    dead = orphans._signature(gone.pid)
    gone.kill()  # and not waited for: a zombie is dead, too
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    live = orphans._signature(os.getpid())
    kinds = {
        "orphan": (MEEK, tmp_path, {orphans.MARK: dead}),
        "deaf orphan": (DEAF, tmp_path, {orphans.MARK: dead}),
        "orphan of another folder": (MEEK, elsewhere, {orphans.MARK: dead}),
        "job of a live one": (MEEK, tmp_path, {orphans.MARK: live}),
        "by hand": (MEEK, tmp_path, {}),
    }
    found = {}
    for name, (code, folder, variables) in kinds.items():
        kept = {key: value for key, value in os.environ.items() if key != orphans.MARK}
        found[name] = subprocess.Popen(
            [sys.executable, "-c", code], cwd=folder, env={**kept, **variables}, stdout=subprocess.PIPE
        )
        found[name].stdout.readline()
    yield found
    for process in (gone, *found.values()):
        process.kill()
        process.wait()


def test_orphans_are_asked_then_killed_and_nothing_else_is_touched(
    started: dict[str, subprocess.Popen[bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(orphans, "PATIENCE_SECONDS", 1.0)
    orphans.end()
    said = capsys.readouterr().err
    left = [name for name, process in started.items() if process.poll() is None]
    assert left == ["orphan of another folder", "job of a live one", "by hand"]
    assert f"a killed start left this at work; ending it: process {started['orphan'].pid}, " in said
    assert f"did not leave in 1 s; killing it: process {started['deaf orphan'].pid}, " in said
    assert said.count("\n") == 3
    orphans.end()
    assert capsys.readouterr().err == ""


def test_what_is_started_bears_the_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(orphans.MARK, "")
    orphans.mark()
    code = f"import os; print(os.environ[{orphans.MARK!r}])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == orphans._signature(os.getpid())
    assert orphans._alive(told.strip())
    assert not orphans._alive(told.strip() + "1")  # the number, used again by another process
