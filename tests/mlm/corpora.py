"""Small corpora for tests: files, archives and the corpus file that describes them."""

import bz2
import gzip
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mlm import archives, corpus
from mlm.errors import InputError
from tests.mlm.places import write_yaml

WORDS = "But soft, what light through yonder window breaks? – It is the east, and Juliet is the sun.\n"
TEXTS = {f"scene-{i}": f"Scene {i}.\n\n" + WORDS * (i + 1) for i in range(6)}
PLAYS = {f"plays/{name}.md": text.encode() for name, text in TEXTS.items()}
SPLIT = {"validation": ["scene-1"], "test": ["scene-2", "scene-3"]}


def declare(source: dict[str, Any], split: dict[str, Any] | None = None, **more: Any) -> Path:
    content = {"title": "t", "licence": "l", "source": source, "split": split or SPLIT, **more}
    return write_yaml(Path("corpus.yaml"), content)


def prepared(path: Path) -> dict[str, dict[str, str]]:
    """split -> document -> text, of the corpus that `path` describes."""
    Path("out/corpus.json").unlink(missing_ok=True)  # as the command does, and Snakemake before it
    corpus.prepare(path, Path("out"))
    found: dict[str, dict[str, str]] = {}
    for split in corpus.SPLITS:
        found[split] = {}
        for document, text in corpus.read(Path("out"), split):
            found[split][document] = found[split].get(document, "") + text
    return found


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        corpus.prepare(path, Path("out"))
    assert not Path("out/corpus.json").exists()
    return str(caught.value)


def put_files(ending: str = ".txt") -> None:
    Path("in").mkdir(exist_ok=True)
    for name, text in TEXTS.items():
        raw = text.encode()
        pack = {".gz": gzip.compress, ".bz2": bz2.compress}.get(Path(ending).suffix, bytes)
        Path("in", name + ending).write_bytes(pack(raw))


def files(*paths: str, **more: Any) -> dict[str, Any]:
    return {"kind": "files", "paths": list(paths), **more}


def package(archive: Path, members: str = "plays/*.md") -> dict[str, Any]:
    folder = archives.folder()
    folder.mkdir(parents=True, exist_ok=True)
    kept = archive.rename(folder / archive.name)
    sha256 = hashlib.sha256(kept.read_bytes()).hexdigest()
    return {"kind": "package", "registry": "python", "package": "a==1", "sha256": sha256, "members": members}


def zipped(content: dict[str, bytes], path: str = "a.whl") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as pack:
        for name, raw in content.items():
            pack.writestr(name, raw)
    return Path(path)


def taped(content: dict[str, bytes], path: str = "a.tgz") -> Path:
    with tarfile.open(path, "w:gz") as tape:
        for name, raw in content.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(raw)
            tape.addfile(entry, io.BytesIO(raw))
    return Path(path)
