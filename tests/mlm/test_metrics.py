"""metrics.jsonl has no gap and no repeat, whatever stopped the writer."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm.errors import Damaged
from mlm.metrics import MetricsLog, read

RECORDS = [
    {"event": "train", "step": step, "loss_nats": step / 7, "text": "é\u2028"} for step in range(0, 50, 5)
]


def write(path: Path, after: int, records: list[dict]) -> None:
    log = MetricsLog(path, after)
    for record in records:
        log.append(record)
    log.close()


@given(stopped=st.integers(0, 10), saved=st.integers(0, 10), torn=st.integers(0, 60))
def test_after_any_stop_and_resume_the_file_is_that_of_an_undisturbed_run(
    tmp_path_factory: pytest.TempPathFactory, stopped: int, saved: int, torn: int
) -> None:
    folder = tmp_path_factory.mktemp("metrics")
    write(folder / "whole", 0, RECORDS)
    saved = min(saved, stopped)
    write(folder / "resumed", 0, RECORDS[:stopped])
    with (folder / "resumed").open("a") as stream:  # a line that was being written
        stream.write((json.dumps(RECORDS[stopped % 10]) + "\n")[:torn])
    after = RECORDS[saved - 1]["step"] if saved else 0
    write(folder / "resumed", after, [r for r in RECORDS if not after or r["step"] > after])
    assert (folder / "resumed").read_bytes() == (folder / "whole").read_bytes()
    assert list(read(folder / "resumed")) == RECORDS


def test_a_record_is_on_disk_as_soon_as_it_is_said(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "m", 0)
    log.append(RECORDS[0])
    assert list(read(tmp_path / "m")) == RECORDS[:1]
    log.close()


def test_what_is_no_number_is_refused(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "m", 0)
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            log.append({"step": 0, "loss_nats": value})
    log.close()


HARMS = {
    "no line end": lambda raw: raw[:-1],
    "truncated": lambda raw: raw[:-9],
    "altered": lambda raw: raw.replace(b"{", b"[", 1),
    "no object": lambda raw: raw + b"7\n",
    "not UTF-8": lambda raw: b"\xff" + raw,
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_a_torn_file_is_named_and_never_half_read(tmp_path: Path, harm) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, 0, RECORDS)
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(Damaged, match=r"metrics\.jsonl"):
        list(read(path))
    with pytest.raises(Damaged, match="nowhere"):
        list(read(tmp_path / "nowhere"))
