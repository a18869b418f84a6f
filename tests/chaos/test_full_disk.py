"""On a disk that is full, every stage says what it lacks; given that, the same command completes it."""

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import analysis.__main__
import mlm.__main__
from mlm import logs
from mlm.files import file_sha256
from tests.chaos.tiny import finished
from tests.pipeline.copies import Copy

pytestmark = pytest.mark.long
STEP_BYTES = 2**15
"""Granted beyond what a message asks for, so that a stage of many files fails a few times and not at each."""
RULES = ("corpus", "vocabulary", "shards", "train", "measure_1", "collect", "contrasts", "table",
         "figures_trial", "numbers", "paper", "comparison", "report_page")  # fmt: skip
TOLD = re.compile(r"error: (\S+): No space left on device: (?:([\d,]+) bytes|more) needed, ([\d,]+) bytes free")


class Disk:
    """A tmpfs, and a file in it that takes up the room."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder, self.ballast = folder, folder / "ballast"
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", folder], check=True)

    @property
    def free(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def leave(self, free: int) -> None:
        """Make the free room so many bytes, in whole pages."""
        size = self.ballast.stat().st_size if self.ballast.exists() else 0
        with self.ballast.open("ab") as stream:
            new = size + self.free - free
            if new > size:
                os.posix_fallocate(stream.fileno(), 0, new)
            else:
                stream.truncate(max(0, new))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        made = Disk(folder, 96)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to mount a tmpfs")
    yield made
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def do(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[[str], tuple[int, str]]:
    """do(line): a command of the pipeline in this process; its status and what it said on standard error."""

    def run(line: str) -> tuple[int, str]:
        log, _, command = line.removeprefix(f"export {logs.VARIABLE}=").partition("; ")
        monkeypatch.setenv(logs.VARIABLE, log)
        words = shlex.split(command)
        assert words[:2] == ["python", "-m"]
        main = {"mlm": mlm.__main__.main, "analysis": analysis.__main__.main}[words[2]]
        monkeypatch.setattr("sys.argv", words[2:])
        capfd.readouterr()
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, capfd.readouterr().err

    return run


def commands(place: Path) -> dict[str, tuple[str, list[Path]]]:
    """Rule -> one of its commands, and what that makes, as Snakemake recorded them."""
    notes = place / ".snakemake" / "metadata"
    found: dict[str, tuple[str, list[Path]]] = {}
    for path in sorted(path for path in notes.rglob("*") if path.is_file()):
        record, name = json.loads(path.read_text()), str(path.relative_to(notes)).replace("/@", "/").lstrip("@")
        command, outputs = found.setdefault(record["rule"], (record["shellcmd"], []))
        if record["shellcmd"] == command:
            outputs.append(Path(base64.urlsafe_b64decode(name.replace("/", "")).decode()))
    return found


def undo(rule: str, outputs: list[Path]) -> set[Path]:
    """Remove what a rule makes; returns the names that it is about."""
    if rule in ("corpus", "shards"):
        made = [*outputs[0].parent.iterdir()]
    elif rule == "train":
        names = ("trained", "run.json", "metrics.jsonl", "weights.safetensors", "kept/*")
        made = [path for name in names for path in outputs[0].parent.glob(name)]
    else:
        # What a step vouched for is withdrawn before it writes anew.
        made = [*outputs, *Path("results").glob(f"*/provenance/**/{rule.partition('_')[0]}.json")]
    for path in made:
        path.unlink()
    if rule == "measure_1":  # of which training laid aside what would only be put in its place
        shutil.rmtree(outputs[0].parent / "aside", ignore_errors=True)
    return set(made)


def everything(place: Path) -> dict[Path, str]:
    files = (path for path in Path("results").rglob("*") if path.is_file() and "logs" not in path.parts)
    return {path: file_sha256(path) for path in files}


def test_what_a_full_disk_lacks_is_told_and_given_it_the_same_command_completes(
    calm: Copy, disk: Disk, do: Callable[[str], tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Copy(disk.folder / "place")
    shutil.copytree(calm.folder, place.folder, symlinks=True)
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("GIT_DIR", str(place.folder / "none"))  # this process's code lies in a repository
    expected, known = finished(place), commands(place.folder)
    told: dict[str, list[str]] = {}
    for rule in RULES:
        command, outputs = known[rule]
        made = undo(rule, outputs)
        before = everything(place.folder)
        room = 0
        while True:
            disk.leave(room)
            status, said = do(command)
            if status == 0:
                break
            assert status == 2, said
            assert "Traceback" not in said
            found = TOLD.search(said)
            assert found, said
            told.setdefault(rule, []).append(found[1])
            assert {
                path: digest for path, digest in everything(place.folder).items() if path in before
            } == before
            room = disk.free + int((found[2] or "0").replace(",", "")) + STEP_BYTES
            assert len(told[rule]) < 40, told
        assert told.get(rule), f"{rule} needed no room"
        assert made <= everything(place.folder).keys()
    found = finished(place)
    assert {name: (found.get(name), was) for name, was in expected.items() if found.get(name) != was} == {}
    assert all(Path(name).is_relative_to("results") for names in told.values() for name in names), told
    disk.leave(500_000)
    refused = place.run(*place.make("smoke"), ok=False)  # Snakemake's own notes need more
    assert refused.returncode == 2
    assert [name for name, *_ in TOLD.findall(refused.stderr)] == [".snakemake"], refused.stderr
    assert "Traceback" not in refused.stderr
    trained = {re.sub(r".*/(\d+(?=\.))?", "", name) for name in told["train"]}
    # Checkpoints come by the clock, so whether one has taken the room of the weights does too.
    assert trained >= {"metrics.jsonl", ".checkpoint"}, told
