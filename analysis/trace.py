"""From a number of the paper back to its corpus: every file on the way, and whether it is as recorded.

Who says what a file was are the manifests of `analysis.provenance`, which vouch for themselves. A number's way
holds its tables, its own runs and their data; without a number it is all between corpus and paper.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis import labels, outputs, provenance, study
from mlm import layout
from mlm.errors import Damaged, InputError
from mlm.files import file_sha256, read_json
from mlm.layout import RESULTS
from mlm.progress import Progress

STAGES = ("paper", "numbers", "figures", "tables", "plan", "measures", "runs", "weights",
          "read by measures", "vocabulary", "shards", "corpus", "records")  # fmt: skip
"""Of the way, in its order; `records` are the manifests themselves."""
OF_DATA = {"vocabularies": "vocabulary", "shards": "shards", "corpora": "corpus"}
OF_RUNS = {"config.json", "run.json", "metrics.jsonl"}
OK = "as recorded"
WROTE = "wrote it"
SHOWN = 16
"""Hexadecimal digits of a hash that are shown."""


@dataclass
class File:
    """A file on the way."""

    path: Path
    said: dict[str, str] = field(default_factory=dict)
    """Who recorded it, in words -> SHA-256."""
    state: str = ""
    """`OK`, or what is wrong with it."""

    @property
    def stage(self) -> str:
        """Where on the way it stands."""
        inside = self.path.parts[1:] if self.path.parts[0] == RESULTS.name else ()
        if len(inside) < 2:
            return "paper"  # a source of it
        if inside[0] == "data":
            return OF_DATA.get(inside[1], "read by measures")
        if inside[0] in ("runs", "untrained"):
            weights = self.path.suffix == ".safetensors"
            return "weights" if weights else "runs" if self.path.name in OF_RUNS else "measures"
        if inside[1] == layout.study_file("").name:
            return "plan"
        return "numbers" if len(inside) == 2 else {"provenance": "records"}.get(inside[1], inside[1])

    def look(self) -> None:
        """Compare the file with what was recorded of it."""
        if self.state:
            return
        if not self.path.is_file():
            self.state = "missing"
            return
        now = file_sha256(self.path)
        others = [who for who, sha256 in self.said.items() if sha256 != now]
        writers = [who for who in others if who.endswith(WROTE)]  # who only read it says no more
        self.state = f"changed since {', '.join(writers or others)}" if others else OK


@dataclass(frozen=True)
class Way:
    """What `trace` found."""

    title: str
    files: list[File]

    @property
    def changed(self) -> list[File]:
        """Files that are not what was recorded."""
        return [one for one in self.files if one.state != OK]

    def lines(self, every: bool) -> Iterator[str]:
        """The way as text: by stage every file, or only those that are not as recorded."""
        yield self.title
        for stage in STAGES:
            mine = [one for one in self.files if one.stage == stage]
            if not mine:
                continue
            bad = sum(one.state != OK for one in mine)
            yield f"{stage}: {len(mine)} file{'s' * (len(mine) > 1)}, " + (f"{bad} CHANGED" if bad else OK)
            for one in mine:
                if every or one.state != OK:
                    hashes = dict.fromkeys(sha256[:SHOWN] for sha256 in one.said.values())
                    mark = "" if one.state == OK else f" -- {one.state}"
                    yield f"  {' '.join(hashes) or '-' * SHOWN}  {one.path}{mark}"
        yield self.verdict

    @property
    def verdict(self) -> str:
        """The last line."""
        if not self.changed:
            return f"all {len(self.files)} files are as recorded"
        names = ", ".join(f"{one.path} ({one.state})" for one in self.changed)
        return f"{len(self.changed)} of {len(self.files)} files not as recorded: {names}"


def of(scale: str, number: str = "") -> Way:
    """The way of a number, or of the whole paper.

    Raises:
        InputError: nothing was recorded, or there is no such number.
    """
    if not provenance.folder(scale).is_dir():
        there = ", ".join(sorted(path.parent.name for path in RESULTS.glob("*/provenance"))) or "none"
        raise InputError(
            f"{provenance.folder(scale)}: missing, so nothing of scale {scale!r} can be traced; run "
            f"`snakemake --cores all --config scale={scale}`. Scales with records: {there}"
        )
    files, manifests = _manifests(scale)
    if not number:
        for manifest in manifests:
            _claim(files, manifest, manifest.read | manifest.wrote)
        _look_at_plan(scale, files, manifests)
        return _looked(f"the paper of scale {scale}, from corpus to PDF", files)
    entry = _entry(scale, number, files, manifests)
    if entry is None:
        return _looked(f"{number}: its way cannot be followed, as numbers.json is not what was written", files)
    for manifest in manifests:
        _claim(files, manifest, _on_the_way(scale, entry, manifest))
    _claim_of_number(files, entry)
    mine = {Path(path).parent.name for path in entry["tables"]}
    _look_at_plan(scale, files, [one for one in manifests if one.experiment in mine])
    return _looked(_title(number, entry), files)


def ids(scale: str, beginning: str) -> list[str]:
    """Ids of numbers that begin so; none where numbers.json cannot be read, which `of` then tells."""
    try:
        return [key for key in _numbers(scale) if key.startswith(beginning)]
    except Damaged:
        return []


def _numbers(scale: str) -> dict[str, Any]:
    content: dict[str, Any] = read_json(
        outputs.numbers_file(scale), f"run `python -m analysis numbers {scale}`"
    )
    return content


def _manifests(scale: str) -> tuple[dict[str, File], list[provenance.Manifest]]:
    """The records as files on the way, and those of them that are whole."""
    files, found = {}, []
    for path in sorted(provenance.folder(scale).rglob("*.json")):
        one = File(path)
        try:
            found.append(provenance.load(path))
            one.state = OK
        except Damaged:
            one.state = "changed: its seal does not fit"
        files[path.as_posix()] = one
    return files, found


def _entry(
    scale: str, number: str, files: dict[str, File], manifests: list[provenance.Manifest]
) -> dict[str, Any] | None:
    """The entry of a number; None where numbers.json cannot be trusted, which is then on the way."""
    path = outputs.numbers_file(scale)
    for manifest in manifests:
        if path.as_posix() in manifest.wrote and not provenance.matches(path, manifest.wrote[path.as_posix()]):
            _claim(files, manifest, {path.as_posix(): manifest.wrote[path.as_posix()]})
            return None
    numbers = _numbers(scale)
    if number in numbers:
        entry: dict[str, Any] = numbers[number]
        return entry
    near = difflib.get_close_matches(number, numbers, 3, cutoff=0.4)
    hint = f"near are: {', '.join(near)}" if near else "numbers.json has no id like it"
    raise InputError(f"{path}: no number has the id {number!r}; {hint}")


def _on_the_way(scale: str, entry: dict[str, Any], manifest: provenance.Manifest) -> dict[str, str]:
    """What a step says of files on the way of a number."""
    experiments = {Path(path).parent.name for path in entry["tables"]}
    if manifest.experiment and manifest.experiment not in experiments:
        return {}
    if manifest.step in ("collect", "contrasts"):
        mine = {path: sha256 for path, sha256 in manifest.read.items() if _is_mine(Path(path), entry)}
        return mine | manifest.wrote
    if manifest.step in ("numbers", "paper"):
        numbers = outputs.numbers_file(scale).as_posix()
        wanted = {*entry["tables"], numbers}
        return {path: sha256 for path, sha256 in manifest.read.items() if path in wanted} | manifest.wrote
    return {}


def _is_mine(path: Path, entry: dict[str, Any]) -> bool:
    """Whether a file that results stand on is of a number's runs, or of the data of these."""
    area, *inside = path.parts[1:]
    if area in ("runs", "untrained"):
        return inside[0] in entry["runs"]
    if area != "data":
        return True
    data = {Path(one).parent for one in entry["inputs"]}
    return inside[0] not in OF_DATA or any(path.is_relative_to(folder) for folder in data)


def _claim(files: dict[str, File], manifest: provenance.Manifest, said: dict[str, str]) -> None:
    for path, sha256 in said.items():
        did = WROTE if path in manifest.wrote else "read it"
        of = f" of {manifest.experiment}" if manifest.experiment else ""
        files.setdefault(path, File(Path(path))).said[f"`{manifest.step}`{of} {did}"] = sha256


def _claim_of_number(files: dict[str, File], entry: dict[str, Any]) -> None:
    for path, sha256 in (entry["tables"] | entry["inputs"]).items():
        files.setdefault(path, File(Path(path))).said["the number was made"] = sha256


def _look_at_plan(scale: str, files: dict[str, File], manifests: list[provenance.Manifest]) -> None:
    """study.json holds all experiments, so it is what it says of each that must be as steps were told."""
    path = layout.study_file(scale)
    planned = File(path, state=OK)
    try:
        found = study.load(scale)
        told = (one for one in manifests if one.study and one.experiment in found.experiments)
        changed = [one for one in told if one.study != found.stated(one.experiment)]
        if changed:
            planned.state = f"changed since {', '.join(map(_read_by, changed))}"
    except InputError as error:
        planned.state = f"changed: {error.problems[0]}"
    files[path.as_posix()] = planned


def _read_by(manifest: provenance.Manifest) -> str:
    return f"`{manifest.step}` of {manifest.experiment} read it"


def _looked(title: str, files: dict[str, File]) -> Way:
    found = list(files.values())
    sizes = [one.path.stat().st_size if one.path.is_file() and not one.state else 0 for one in found]
    progress = Progress("hashing", sum(sizes), "bytes")
    for one, size in zip(found, sizes, strict=True):
        one.look()
        progress.add(size)
    return Way(title, sorted(found, key=lambda one: one.path.as_posix()))


def _title(number: str, entry: dict[str, Any]) -> str:
    """A number with all that stands beside it."""
    value = labels.number(entry["value"], entry["digits"])
    ends = [labels.number(entry[end], entry["digits"]) for end in ("low", "high")]
    said = f" ({entry['interval']}: {ends[0]} to {ends[1]})" if entry["low"] is not None else ""
    n = f", n = {entry['n']}" if entry["n"] else ""
    code, commit = (", ".join(entry[key]) or "—" for key in ("code", "git_commit"))
    made = f"from {len(entry['runs'])} runs; code {code}; commit {commit}"
    return f"{number} = {value} {entry['unit']}{said}{n}\n{made}"
