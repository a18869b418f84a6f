"""Which documents are held out: by name, or a share of all by the hash of their names."""

import fnmatch
import hashlib
import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from mlm.errors import InputError
from mlm.sources import unpacked_name
from mlm.yaml_file import Strict

SPLITS = ("train", "validation", "test")


def _held_out(value: Any) -> Any:
    names = isinstance(value, list) and value and all(isinstance(name, str) for name in value)
    share = isinstance(value, float) and 0 < value < 1
    if not (names or share):
        raise ValueError(f"is {value!r}; give a list of document names, or a share between 0 and 1 such as .05")
    return value


class Division(Strict):
    """Which documents are held out: ids (globs over the id's last part), or a share of all."""

    validation: Annotated[list[str] | float, BeforeValidator(_held_out)]
    test: Annotated[list[str] | float, BeforeValidator(_held_out)]


class Divider:
    """Sends documents to their splits, and remembers which of its names were met."""

    def __init__(self, division: Division, declared_in: str) -> None:
        self.division = division
        self.declared_in = declared_in
        self.used: set[str] = set()

    def split_of(self, document: str) -> str:
        """The split of a document, decided by its name alone."""
        # A share is taken by the hash of the id: adding documents moves no other document.
        place = int.from_bytes(hashlib.sha256(document.encode()).digest()[:8], "big") / 2**64
        stem = re.sub(r"\.(txt|md)$", "", unpacked_name(document.rsplit("/", 1)[-1]))
        for split in ("validation", "test"):
            wanted = getattr(self.division, split)
            if isinstance(wanted, list):
                for pattern in wanted:
                    if fnmatch.fnmatchcase(stem, pattern) or document == pattern:
                        self.used.add(pattern)
                        return split
            elif place < wanted:
                return split
            else:
                place -= wanted
        return "train"

    def unmet(self) -> list[str]:
        """A problem for each name that no document has."""
        return [
            f"{self.declared_in}: split.{split}: no document is called {name!r}"
            for split in ("validation", "test")
            if isinstance(wanted := getattr(self.division, split), list)
            for name in wanted
            if name not in self.used
        ]


def check(dividers: list[Divider], documents: dict[str, int], declared_in: str) -> None:
    """Refuse names that no document has, and splits without documents.

    Raises:
        InputError: every one of these problems.
    """
    total = sum(documents.values())
    if not total:
        raise InputError(f"{declared_in}: source: holds no document with text")
    found = [problem for divider in dividers for problem in divider.unmet()]
    found = found or [
        f"{declared_in}: split: no document falls to {split} ({total} in all); name documents for it, "
        "raise its share, or cut the text into more documents"
        for split in SPLITS
        if not documents[split]
    ]
    if found:
        raise InputError(*found)
