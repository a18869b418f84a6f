"""A checkpoint is whole or refused, and the one before it is there."""

import hashlib
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import safetensors.torch
import torch

from mlm import checkpoint, config, files
from mlm.checkpoint import State
from mlm.encoder import Encoder
from mlm.errors import Damaged


def state(step: int) -> State:
    source = torch.Generator().manual_seed(step)
    tensors = {
        name: torch.randn(50, generator=source) for name in ("parameters", "first_moment", "second_moment")
    }
    return State(step, tensors, {"eligible": float(step), "seconds": step / 3})


def same(one: State | None, other: State) -> bool:
    assert one is not None
    equal = all(torch.equal(one.tensors[name], other.tensors[name]) for name in other.tensors)
    return equal and one.step == other.step and one.counters == other.counters


def test_what_was_saved_is_what_is_loaded(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, state(7))
    found, warnings = checkpoint.latest(tmp_path)
    assert same(found, state(7))
    assert not warnings


def test_the_newest_counts_and_two_are_kept(tmp_path: Path) -> None:
    for step in (9, 10, 100, 1000):
        checkpoint.save(tmp_path, state(step))
    assert same(checkpoint.latest(tmp_path)[0], state(1000))
    assert sorted(int(path.stem) for path in tmp_path.iterdir()) == [100, 1000]


def test_nothing_there_is_no_state(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path / "never") == (None, [])


@pytest.mark.parametrize("part", ["checksum", "header", "weights", "last byte"])
@pytest.mark.parametrize("harm", ["flip", "truncate", "empty", "longer"])
def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path: Path, part: str, harm: str) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, state(step))
    newest = tmp_path / f"{2:012d}.checkpoint"
    raw = bytearray(newest.read_bytes())
    place = {"checksum": 3, "header": 50, "weights": len(raw) - 300, "last byte": len(raw) - 1}[part]
    if harm == "flip":
        raw[place] ^= 1
    newest.write_bytes({"flip": raw, "truncate": raw[:place], "empty": b"", "longer": raw + b"x"}[harm])
    found, warnings = checkpoint.latest(tmp_path)
    assert same(found, state(1))
    assert len(warnings) == 1
    assert str(newest) in warnings[0]


def test_no_whole_checkpoint_is_a_new_start_and_says_so(tmp_path: Path) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, state(step))
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    found, warnings = checkpoint.latest(tmp_path)
    assert found is None
    assert [
        str(path) in told for path, told in zip(sorted(tmp_path.iterdir(), reverse=True), warnings, strict=True)
    ]
    assert "falling back to the one of step 1" in warnings[0]
    assert warnings[1].endswith("; training anew")


def test_a_damaged_one_of_a_later_step_takes_no_place(tmp_path: Path) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, state(step))
    (tmp_path / f"{9:012d}.checkpoint").write_bytes(b"damaged")
    checkpoint.save(tmp_path, state(3))
    assert sorted(int(path.stem) for path in tmp_path.iterdir()) == [2, 3]


def test_a_checksum_over_what_is_no_checkpoint_does_not_help(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, state(1))
    for content in (b"", b"x" * 40, safetensors.torch.save({"a": torch.zeros(2)}, {"step": "2"})):
        raw = hashlib.sha256(content).digest() + content
        (tmp_path / f"{2:012d}.checkpoint").write_bytes(raw)
        found, warnings = checkpoint.latest(tmp_path)
        assert same(found, state(1))
        assert len(warnings) == 1


def test_a_save_takes_what_a_killed_writer_left(tmp_path: Path) -> None:
    (tmp_path / f".{3:012d}.checkpoint.abc{files.PARTIAL}").write_bytes(b"half")
    checkpoint.save(tmp_path, state(4))
    assert [path.name for path in tmp_path.iterdir()] == [f"{4:012d}.checkpoint"]


def test_clear_takes_what_a_killed_writer_left(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "keep", state(1))
    (tmp_path / "keep" / ".000000000002.checkpoint.xyz.partial").write_bytes(b"half")
    assert same(checkpoint.latest(tmp_path / "keep")[0], state(1))
    checkpoint.clear(tmp_path / "keep")
    assert list(tmp_path.iterdir()) == []
    checkpoint.clear(tmp_path / "keep")  # twice does no harm


def encoder(seed: int, **changes: object) -> Encoder:
    small = {"layers": 1, "width": 8, "heads": 2, "max_positions": 8, **changes}
    return Encoder(config.Encoder.model_validate(small), 20, seed, torch.float32)


def test_weights_round_trip_and_the_same_weights_are_the_same_bytes(tmp_path: Path) -> None:
    one, other = encoder(0), encoder(1)
    checkpoint.save_weights(tmp_path / "a", one, {"run": "x"})
    checkpoint.load_weights(tmp_path / "a", other)
    checkpoint.save_weights(tmp_path / "b", other, {"run": "x"})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    checkpoint.save_weights(tmp_path / "a", encoder(0), {})
    for other in (encoder(0, layers=2), encoder(0, feedforward_width=9), encoder(0, biases=True)):
        with pytest.raises(Damaged, match="other parameters"):
            checkpoint.load_weights(tmp_path / "a", other)
    raw = (tmp_path / "a").read_bytes()
    for harmed in (raw[: len(raw) // 2], b"", b"\xff" * 100):
        (tmp_path / "a").write_bytes(harmed)
        with pytest.raises(Damaged, match="not readable as safetensors"):
            checkpoint.load_weights(tmp_path / "a", encoder(0))
    with pytest.raises(Damaged):
        checkpoint.load_weights(tmp_path / "nowhere", encoder(0))


def _hold(path: Path, ready: "multiprocessing.connection.Connection") -> None:
    with files.locked(path):
        ready.send(True)
        signal.pause()


def test_a_lock_lives_as_long_as_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not files.is_locked(path)
    mine, theirs = multiprocessing.Pipe()
    holder = multiprocessing.get_context("fork").Process(target=_hold, args=(path, theirs))
    holder.start()
    mine.recv()
    assert files.is_locked(path)
    os.kill(holder.pid or 0, signal.SIGKILL)
    holder.join()
    assert not files.is_locked(path)
    with files.locked(path):
        assert path.exists()
