"""results/<scale>/provenance/: what each step of the analysis read and wrote, by SHA-256.

A step on the way to the paper or to a publication leaves one manifest, `<experiment>/<step>.json` or
`<step>.json` where it is of the whole scale; `report` and `comparison`, which lie beside that way, leave
none. So each file between corpus and paper has somebody who vouches for it; `trace` looks whether it still
is that file, and a step that reads what another wrote refuses what was changed since, or was made from
tables that are others by now. Runs have seconds in their files, so manifests differ between machines, and
no table, figure or number is made from their hashes of runs.
"""

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlm.errors import Damaged
from mlm.files import file_sha256, write_atomically
from mlm.layout import RESULTS, study_file, tables

TEXT = {".csv", ".json", ".md", ".tex", ".typ"}
"""Files of which each line has a check of its own, so that a changed one can be named."""
LONGEST = 160
"""Characters of a line that a message shows."""
OPEN_SEAL = '"seal": ""'


@dataclass(frozen=True)
class Manifest:
    """What a step read and wrote."""

    step: str
    experiment: str
    """Empty where the step is of the whole scale."""
    study: str
    """Digest of what the study says of the experiment, as the step was told it; empty where it has none."""
    read: dict[str, str]
    """Path from the root of the study -> SHA-256."""
    wrote: dict[str, str]
    lines: dict[str, str]
    """Path of a text that was written -> four hexadecimal digits a line."""


def folder(scale: str) -> Path:
    """Where the manifests of a scale lie."""
    return RESULTS / scale / "provenance"


def file(step: str, scale: str, experiment: str = "") -> Path:
    """The manifest of a step."""
    return folder(scale) / experiment / f"{step}.json"


def forget(step: str, scale: str, experiment: str = "") -> None:
    """Take a step's manifest away before it writes: if it is killed, nobody vouches for what it has left."""
    file(step, scale, experiment).unlink(missing_ok=True)


def write(
    step: str, scale: str, experiment: str = "", *, study: str = "",
    read: Mapping[str, str] | Iterable[str] = (), wrote: Iterable[str],
) -> None:  # fmt: skip
    """Leave the manifest of a step that has written its files.

    Args:
        study: digest of what the study says of the experiment.
        read: files that were read, hashed now unless their hashes are given.
        wrote: files that were written.
    """
    told = dict(read) if isinstance(read, Mapping) else {path: file_sha256(Path(path)) for path in read}
    made = {path: Path(path).read_bytes() for path in wrote}
    content = {
        "seal": "",
        "step": step,
        "experiment": experiment,
        "study": study,
        "read": told,
        "wrote": {path: hashlib.sha256(content).hexdigest() for path, content in made.items()},
        "lines": {path: _checks(content) for path, content in made.items() if Path(path).suffix in TEXT},
    }
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    seal = hashlib.sha256(text.encode()).hexdigest()
    write_atomically(file(step, scale, experiment), text.replace(OPEN_SEAL, f'"seal": "{seal}"', 1))


def load(path: Path) -> Manifest:
    """A manifest, which vouches for itself: its seal is the hash of the file without it.

    Raises:
        Damaged: it is missing, or not what was written.
    """
    remedy = "run the command of that name again, `python -m analysis --help` lists them"
    try:
        text = path.read_text(encoding="utf-8")
        content: dict[str, Any] = json.loads(text)
        seal = content.pop("seal")
        whole = text.replace(f'"seal": "{seal}"', OPEN_SEAL, 1).encode()
        if hashlib.sha256(whole).hexdigest() == seal:
            return Manifest(**content)
    except FileNotFoundError:
        raise Damaged(f"{path}: missing; {remedy}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise Damaged(f"{path}: damaged or altered (its seal does not fit); {remedy}")


def check_scale(scale: str) -> None:
    """Refuse files of any step that were changed since; those that are gone will be made again.

    Raises:
        Damaged: names each file, and the first line of it that is another.
    """
    found: list[str] = []
    for path in sorted(folder(scale).rglob("*.json")):
        manifest = load(path)
        found += _problems(scale, manifest, [one for one in manifest.wrote if Path(one).exists()])
    if found:
        raise Damaged(*found)


def check(step: str, scale: str, experiment: str = "", *, study: str = "") -> None:
    """Refuse files of a step that were changed since it wrote them, or made from tables that are others by now.

    Without a manifest there is nothing to say.

    Args:
        study: digest of what the study says of the experiment now, to refuse also what was made when it said
            something else.

    Raises:
        Damaged: names each file, and the first line of it that is another.
    """
    path = file(step, scale, experiment)
    if not path.exists():
        return
    manifest = load(path)
    if found := _problems(scale, manifest, manifest.wrote):
        raise Damaged(*found)
    if found := outdated(scale, manifest, tables(scale, ""), study):
        check_scale(scale)  # a table that was changed by hand is told as that
        raise Damaged(*found)


def outdated(scale: str, manifest: Manifest, below: Path, study: str = "") -> list[str]:
    """Why a step would make other files now: what it read and was told, where that has changed since.

    Args:
        below: folder of the files to look at; those that are gone say nothing.
        study: as `check` has it.
    """
    read = [one for one in manifest.read if Path(one).is_relative_to(below) and Path(one).exists()]
    changed = [one for one in read if not matches(Path(one), manifest.read[one])]
    step, found = f"`{manifest.step}`", []
    if study and study != manifest.study:
        found.append(f"{study_file(scale)}: says something else of {manifest.experiment} than {step} was told")
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        found.append(f"{changed[0]}{more}: not as {step} read {'them' if more else 'it'}")
    return [f"{one}; {_again(scale, manifest)}" for one in found]


def _problems(scale: str, manifest: Manifest, paths: Iterable[str]) -> list[str]:
    """What is wrong with files of a step, and how they are had back."""
    changed = [one for one in paths if not matches(Path(one), manifest.wrote[one])]
    told = (_changed(Path(one), manifest.step, manifest.lines.get(one)) for one in changed)
    return [f"{one}; {_again(scale, manifest)}" for one in told]


def _again(scale: str, manifest: Manifest) -> str:
    words = ("python -m analysis", manifest.step, scale, manifest.experiment)
    return f"run `{' '.join(filter(None, words))}` again"


def matches(path: Path, sha256: str) -> bool:
    """Whether a file is there and is the one of this hash."""
    return path.is_file() and file_sha256(path) == sha256


def _changed(path: Path, step: str, checks: str | None) -> str:
    """What became of a file that is not as it was written, with the first line that is another."""
    since = f"truncated or altered since `{step}` wrote it"
    if not path.is_file():
        return f"{path}: missing"
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines if checks else (), start=1):
        if checks and _check(line) != checks[4 * number - 4 : 4 * number]:
            said = line.decode(errors="replace").strip()[:LONGEST]
            return f"{path}, line {number}: {since} (now {said!r})"
    return f"{path}: {since}"


def _checks(content: bytes) -> str:
    return "".join(map(_check, content.split(b"\n")))


def _check(line: bytes) -> str:
    return f"{zlib.crc32(line) & 0xFFFF:04x}"
