"""Where text comes from: files, package archives or data sets -> documents in parts of bounded size."""

import bz2
import glob
import gzip
import io
import json
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
    """Text files on this disk: .txt a document each, .jsonl a document a line; either may be .gz."""

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
    """Needed for a data set on the hub: a name alone can change its content."""
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
    if isinstance(source, HuggingFace) and not Path(source.path).is_dir() and not source.revision:
        raise InputError(
            f"{declared_in}: source.revision: missing; {source.path} is no folder here, and a data set of the "
            "hub needs the revision (commit) that is meant"
        )


def hashes(source: Source, declared_in: str) -> dict[str, str]:
    """SHA-256 of every local file that a source reads; archives and revisions are pinned by their name."""
    if isinstance(source, Files):
        return {str(file): files.file_sha256(file) for file in _matches(source, declared_in)}
    if isinstance(source, HuggingFace) and Path(source.path).is_dir():
        inside = sorted(file for file in Path(source.path).rglob("*") if file.is_file())
        return {str(file): files.file_sha256(file) for file in inside}
    return {}


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


def _unpacked(name: str, stream: IO[bytes]) -> Any:
    if name.endswith(".gz"):
        return gzip.open(stream)
    return bz2.open(stream) if name.endswith(".bz2") else stream


def _matches(source: Files, declared_in: str) -> list[Path]:
    found: list[Path] = []
    for pattern in source.paths:
        here = sorted(Path(name) for name in glob.glob(pattern, recursive=True))  # noqa: PTH207
        here = [file for file in here if file.is_file()]
        if not here:
            raise InputError(f"{declared_in}: source.paths: no file matches {pattern!r} from {Path.cwd()}")
        found.extend(file for file in here if file not in found)
    return found


def _file_documents(file: Path, text_key: str) -> Documents:
    stem = file.name.removesuffix(".gz").removesuffix(".bz2")
    with file.open("rb") as packed, _unpacked(file.name, packed) as stream:
        if not stem.endswith(".jsonl"):
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
                try:
                    text = json.loads(line)[text_key]
                    raw = text.encode() if isinstance(text, str) else b""
                except (UnicodeDecodeError, UnicodeEncodeError) as error:
                    raise InputError(
                        f"{where}: not UTF-8 ({error.reason}); convert the text to UTF-8"
                    ) from None
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
        if not folder.is_dir():
            rows = datasets.load_dataset(
                source.path, source.name, revision=source.revision, split=source.part, streaming=True
            )
        elif any(folder.rglob("*.parquet")):
            found = sorted(str(file) for file in folder.rglob("*.parquet"))
            rows = datasets.load_dataset("parquet", data_files=found, split="train", streaming=True)
        else:
            loaded = datasets.load_from_disk(str(folder))
            rows = loaded[source.part] if isinstance(loaded, datasets.DatasetDict) else loaded
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
