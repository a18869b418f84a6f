"""What an experiment stated at a commit, by git: contrasts as parsed and seeds, not the text of its file.

Where git cannot say (no repository, a shallow one, a commit that is not there, a file that cannot be read as an
experiment's) the answer is None, never a guess. Loads no torch.
"""

import functools
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from mlm import experiment, yaml_file
from mlm.errors import InputError
from mlm.layout import EXPERIMENTS

WORK_TREE = ""
"""In the place of a commit: the files as they lie there now."""


class Row(NamedTuple):
    """A contrast with everything that is stated of it; two are the same if all of it is."""

    family: str
    arm: str
    against: str
    measure: str
    expect: str | None
    margin: float | None

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Row":
        """From a contrast as data; an equivalence expects nothing, another has no margin."""
        return cls(
            row["family"], row["arm"], row["against"], row["measure"], row.get("expect"), row.get("margin")
        )


class Stated(NamedTuple):
    """What an experiment states."""

    contrasts: tuple[Row, ...] = ()
    seeds: tuple[int, ...] = ()
    files: tuple[Path, ...] = ()
    """Its own, and the one that it extends."""


class History:
    """The git history of the study in the current folder.

    Args:
        scale: whose limits on seeds count.
    """

    def __init__(self, scale: str) -> None:
        self.scale = scale
        self.head = _git("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        """None outside a repository, and before its first commit."""
        self.shallow = self.head is not None and _git("rev-parse", "--is-shallow-repository") != "false"
        self._stated = functools.cache(self._read)

    def stated(self, commit: str, name: str) -> Stated | None:
        """What an experiment stated at a commit: nothing where it had no file there; None: not known.

        Args:
            commit: a commit's full name, or `WORK_TREE`.
        """
        return self._stated(commit, name)

    def has(self, commit: str) -> bool:
        """Whether the commit is in the repository."""
        return self.head is not None and _git("cat-file", "-e", f"{commit}^{{commit}}") is not None

    def uncommitted(self, name: str) -> bool | None:
        """Whether the contrasts that stand in the work tree are others than in the last commit."""
        if self.head is None:
            return None
        if not self._edited:
            return False
        if (now := self.stated(WORK_TREE, name)) is None:
            return None
        if not self._edited.intersection(now.files):
            return False
        then = self.stated(self.head, name)
        return None if then is None else {*now.contrasts} != {*then.contrasts}

    def changed_in(self, name: str) -> str | None:
        """The commit since which the contrasts are those of the work tree.

        None: they are in no commit yet, or the history does not go back far enough to tell.
        """
        now = self.stated(WORK_TREE, name)
        if self.head is None or now is None or self.uncommitted(name) is not False:
            return None
        found = None
        for commit in self.changes(now.files):
            then = self.stated(commit, name)
            if then is None:
                return None
            if {*then.contrasts} != {*now.contrasts}:
                return found
            found = commit
        return None if self.shallow else found

    def changes(self, paths: Iterable[Path], kinds: str = "") -> list[str]:
        """Commits that changed one of the files, the newest first.

        Args:
            kinds: of changes, as `git log --diff-filter` spells them; all, unless told.
        """
        chosen = [f"--diff-filter={kinds}"] if kinds else []
        words = ("log", "--no-show-signature", "--no-renames", "--format=%H", *chosen, "--", *map(str, paths))
        return (_git(*words) or "").split()

    def text(self, commit: str, path: Path) -> str | None:
        """A file's content at a commit of the repository; None where it had none."""
        return _git("show", f"{commit}:./{path.as_posix()}", strip=False)

    @functools.cached_property
    def _edited(self) -> set[Path]:
        """Files of experiments that are not as in the last commit."""
        words = ("--porcelain", "--untracked-files=all", "--no-renames", "-z", "--", str(EXPERIMENTS))
        prefix = _git("rev-parse", "--show-prefix") or ""
        told = (_git("--no-optional-locks", "status", *words, strip=False) or "").split("\0")
        return {Path(line[3:].removeprefix(prefix)) for line in told if line}

    def _read(self, commit: str, name: str) -> Stated | None:
        if commit == WORK_TREE:
            return stated(name, self.scale, lambda path: path.read_text("utf-8") if path.exists() else None)
        if not self.has(commit):
            return None
        return stated(name, self.scale, lambda path: self.text(commit, path))


def stated(name: str, scale: str, read: Callable[[Path], str | None]) -> Stated | None:
    """What an experiment's file states, over the one that it extends; None where it is no experiment's.

    Args:
        read: path -> text, or None where there is no such file.
    """
    path = EXPERIMENTS / f"{name}.yaml"
    try:
        if (text := read(path)) is None:
            return Stated()
        content, read_from = yaml_file.parse(text, str(path)), [path]
        if "extends" in content:
            read_from.append(EXPERIMENTS / f"{content['extends']}.yaml")
            content = yaml_file.parse(read(read_from[-1]) or "", str(read_from[-1])) | content
        contrasts = experiment.Contrasts.model_validate(content["contrasts"])
        rows = contrasts.rows(content["baseline"], content["primary_measure"])
        limits = yaml_file.parse(read(scale_file(scale)) or "{}", scale)
        least, most = limits.get("seeds_at_least"), limits.get("seeds_at_most")
        seeds = experiment.seeds(content["seeds"], least, most)
        return Stated(tuple(map(Row.of, rows)), tuple(seeds), tuple(read_from))
    except (InputError, ValidationError, AttributeError, KeyError, TypeError, OSError, UnicodeDecodeError):
        return None  # written for another version of this project, or just being written


def scale_file(scale: str) -> Path:
    """The file of a scale, which may limit the number of seeds."""
    return EXPERIMENTS / "scales" / f"{scale}.yaml"


def _git(*words: str, strip: bool = True) -> str | None:
    """What git says; None where it fails, or is not there."""
    try:
        done = subprocess.run(["git", *words], capture_output=True, encoding="utf-8", check=False)
    except (OSError, UnicodeDecodeError):
        return None
    if done.returncode:
        return None
    return done.stdout.strip() if strip else done.stdout
