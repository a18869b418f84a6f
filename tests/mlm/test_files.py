"""Files that are whole or absent, and digests that have one spelling."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm import identity
from mlm.errors import Damaged, DiskFull
from mlm.files import file_sha256, read_json, write_atomically, write_json
from tests.mlm.places import ROOT

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


@given(VALUES)
def test_json_round_trip_and_one_digest_for_each_value(tmp_path_factory: pytest.TempPathFactory, value) -> None:
    if "\\ud" in json.dumps(value):
        return  # half of a surrogate pair is no text
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert read_json(path, "") == value
    assert identity.digest(read_json(path, "")) == identity.digest(value)


def test_the_order_of_keys_is_in_no_digest_and_every_value_is() -> None:
    one = {"a": 1, "b": {"x": [1, 2], "y": None}}
    assert identity.digest(one) == identity.digest({"b": {"y": None, "x": [1, 2]}, "a": 1})
    others = [{**one, "a": 2}, {**one, "a": "1"}, {**one, "b": {"x": [2, 1], "y": None}}, {**one, "c": None}]
    assert len({identity.digest(value) for value in (one, *others)}) == 5


def test_what_is_not_finite_is_not_written(tmp_path: Path) -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            write_json(tmp_path / "a", {"x": value})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", ["fsync", "chmod", "replace"])
def test_a_killed_writer_leaves_the_old_file_or_the_new_one(tmp_path: Path, call: str) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    child = os.fork()
    if child == 0:
        setattr(os, call, lambda *_args, **_kwargs: os.kill(os.getpid(), signal.SIGKILL))
        write_atomically(path, "new" * 10_000)
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert path.read_text() == "old"
    write_atomically(path, "new")
    assert path.read_text() == "new"


@pytest.mark.parametrize(("umask", "mode"), [("077", 0o600), ("022", 0o644), ("002", 0o664)])
def test_a_file_may_be_read_by_whom_the_user_lets(tmp_path: Path, umask: str, mode: int) -> None:
    program = (
        "from pathlib import Path; from mlm.files import write_atomically; write_atomically(Path('one'), '')"
    )
    command = ["sh", "-c", f'umask {umask}; exec {sys.executable} -c "{program}"']
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    assert (tmp_path / "one").stat().st_mode & 0o777 == mode


def test_a_failing_write_leaves_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        DiskFull, match=r"deep/file: No space left on device: 1 bytes needed, [\d,]+ bytes free"
    ):
        write_atomically(tmp_path / "deep" / "file", "x")
    assert not list((tmp_path / "deep").iterdir())


@pytest.mark.parametrize("content", [b"", b"{", b'{"a": 1', b"\xff"])
def test_damaged_json_is_named_with_its_remedy(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(Damaged, match=r"run\.json: damaged .*; do this"):
        read_json(path, "do this")
    with pytest.raises(Damaged, match=r"none\.json: missing; do that"):
        read_json(tmp_path / "none.json", "do that")


def test_sha256_is_the_known_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
