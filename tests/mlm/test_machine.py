"""What a machine is called by, and what a process took of its memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from mlm import devices, machine
from tests.mlm.places import ROOT

GRAVITON = """processor\t: 0
BogoMIPS\t: {speed}
Features\t: fp asimd {more}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: {variant}
CPU part\t: {part}

processor\t: 1
Features\t: none
"""
EPYC = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
flags\t\t: fpu avx2 fma bf16x
"""


def told(path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    path.write_text(text)
    monkeypatch.setattr(devices, "CPUINFO", path)
    return {key: value for key, value in machine.record().items() if key != "architecture"}


def test_processors_of_every_make_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bits may differ between them: the record is what says where they may not."""
    file = tmp_path / "cpuinfo"
    second = GRAVITON.format(speed="243.75", more="", variant="0x3", part="0xd0c")
    third = GRAVITON.format(speed="2100.00", more="sve bf16", variant="0x1", part="0xd40")
    assert told(file, second, monkeypatch) == {
        "vendor": "0x41", "family": "0x3", "model": "0xd0c", "flags": ["asimd"]
    }  # fmt: skip
    assert told(file, third, monkeypatch) == {
        "vendor": "0x41", "family": "0x1", "model": "0xd40", "flags": ["asimd", "bf16", "sve"]
    }  # fmt: skip
    assert told(file, EPYC, monkeypatch) == {
        "vendor": "AuthenticAMD", "family": "25", "model": "17", "flags": ["avx2", "bf16x", "fma"]
    }  # fmt: skip
    monkeypatch.setattr(devices, "CPUINFO", tmp_path / "none")
    assert machine.record()["flags"] == [] and machine.record()["vendor"] == ""


def test_a_process_is_not_charged_with_its_parents_memory() -> None:
    """Linux lets the high-water mark of `ru_maxrss` outlive exec."""
    child = "from mlm import memory; print(memory.peak_bytes())"
    large = "x = bytes(range(256)) * 2**20"
    code = f"import subprocess, sys; {large}; subprocess.run([sys.executable, '-c', {child!r}])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 2**22 < int(done.stdout) < 2**27
