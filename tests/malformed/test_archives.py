"""Archives come from outside: none leads out of its folder or fills memory or disk."""

import bz2
import gzip
import io
import stat
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlm import archives, corpus, sources
from mlm.errors import InputError
from tests.mlm.corpora import TEXTS, declare, files, package, prepared, taped, zipped

PLAYS = {f"plays/{name}.md": text.encode() for name, text in TEXTS.items()}
ZEROS = 64 * 2**20
Change = Callable[[tarfile.TarInfo], None]


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLM_ARCHIVES", str(tmp_path / "archives"))


def refusal(archive: Path, members: str = "*") -> str:
    """What is said of an archive, in a few megabytes of memory; nothing is left beside the corpus."""
    path = declare(package(archive, members))
    there = {*Path().rglob("*")}
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as caught:
            corpus.prepare(path, Path("out"))
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()
    left = {*Path().rglob("*")} - there
    assert all(one.parts[0] in ("out", "out.lock") for one in left) and not Path("out/corpus.json").exists()
    assert str(archives.folder() / archive.name) in str(caught.value)
    return str(caught.value)


def tape_with(name: str, change: Change | None = None, content: bytes = b"", path: str = "a.tgz") -> Path:
    """An archive of the plays and one member more."""
    with tarfile.open(path, "w:gz") as tape:
        for play, raw in PLAYS.items():
            entry = tarfile.TarInfo(play)
            entry.size = len(raw)
            tape.addfile(entry, io.BytesIO(raw))
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        if change:
            change(entry)
        tape.addfile(entry, io.BytesIO(content) if entry.isfile() else None)
    return Path(path)


OUTSIDE = ["../outside.md", "plays/../../outside.md", "/outside.md", "..", "..\\outside.md", "C:\\outside.md",
           "plays/two\nlines.md"]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("pack", [zipped, tape_with])
def test_a_member_that_leads_out_of_the_archive(pack: Callable[..., Path], name: str) -> None:
    archive = pack({**PLAYS, name: b"x"}) if pack is zipped else pack(name, content=b"x")
    assert f"member {name!r} leads out of the archive or is no name" in refusal(archive, "plays/*")
    assert not Path("../outside.md").exists()


def test_a_name_in_no_encoding_is_refused() -> None:
    with tarfile.open("a.tgz", "w:gz", format=tarfile.GNU_FORMAT) as tape:
        tape.addfile(tarfile.TarInfo("plays/\udcff.md"))
    assert "leads out of the archive or is no name" in refusal(Path("a.tgz"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE,
                                  tarfile.FIFOTYPE])  # fmt: skip
def test_links_and_devices_are_not_followed(kind: bytes) -> None:
    def change(entry: tarfile.TarInfo) -> None:
        entry.type, entry.linkname = kind, "/etc/hostname"

    archive = tape_with("plays/link.md", change)
    said = refusal(archive, "plays/*")
    assert "member plays/link.md is a link or a device; narrow source.members of corpus.yaml to files" in said
    archive = (archives.folder() / archive.name).rename("a.tgz")
    assert prepared(declare(package(archive, "plays/scene*")))  # what is not asked for harms nothing


def test_a_link_in_a_zip() -> None:
    archive = zipped(PLAYS)
    with zipfile.ZipFile(archive, "a") as pack:
        link = zipfile.ZipInfo("plays/link.md")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        pack.writestr(link, "/etc/hostname")
    assert "member plays/link.md is a link or a device" in refusal(archive)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test comes upon soon."""
    monkeypatch.setattr(archives, "MEMBER_LIMIT_BYTES", 2**20)
    monkeypatch.setattr(archives, "ARCHIVE_LIMIT_BYTES", 8 * 2**20)
    monkeypatch.setattr(archives, "MEMBERS_LIMIT", 100)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("pack", "size"), [(zipped, ZEROS), (taped, 2**22)])
def test_a_bomb_in_a_member(pack: Callable[..., Path], size: int) -> None:
    archive = pack({**PLAYS, "plays/bomb.md": bytes(size)})
    assert archive.stat().st_size < size / 500
    assert f"member plays/bomb.md has {size} bytes, more than 1048576; narrow" in refusal(archive)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("ending", ["gz", "bz2"])
def test_a_bomb_within_a_member(ending: str) -> None:
    packed = (gzip if ending == "gz" else bz2).compress(bytes(ZEROS))
    said = refusal(zipped({**PLAYS, f"plays/zzz.md.{ending}": packed}))
    assert (
        f"member plays/zzz.md.{ending}: comes to more than 1048576 bytes when it is unpacked; do not use"
        in said
    )


@pytest.mark.usefixtures("small")
def test_many_small_members_are_a_bomb_too() -> None:
    many = {f"plays/{number}.md": bytes(2**20) for number in range(20)}
    assert "comes to more than 8388608 bytes" in refusal(zipped(many))
    assert "comes to more than 8388608 bytes" in refusal(taped(many))
    none = {f"plays/{number}.md": b"" for number in range(101)}
    assert "has more than 100 members" in refusal(zipped(none))
    assert "has more than 100 members" in refusal(taped(none))


@pytest.mark.usefixtures("small")
def test_a_header_that_is_a_bomb() -> None:
    """The names and notes of a tar archive have a size of their own."""
    with tarfile.open("a.tgz", "w:gz", format=tarfile.PAX_FORMAT) as tape:
        entry = tarfile.TarInfo("plays/one.md")
        entry.pax_headers = {"comment": "x" * 2**22}
        tape.addfile(entry)
    assert "comes to more than 8388608 bytes when it is unpacked" in refusal(Path("a.tgz"))


@pytest.mark.usefixtures("small")
def test_what_is_not_asked_for_is_unpacked_only_so_far() -> None:
    archive = taped({"aaa": bytes(ZEROS), **PLAYS})
    assert "comes to more than 8388608 bytes when it is unpacked" in refusal(archive, "plays/*")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_ways_of_packing_without_bounds_are_refused(method: int) -> None:
    with zipfile.ZipFile("a.whl", "w", method) as pack:
        pack.writestr("plays/bomb.md", bytes(ZEROS))
    assert "member plays/bomb.md is packed otherwise than by deflate" in refusal(Path("a.whl"))


def test_a_zip_that_lies_about_a_size() -> None:
    archive = zipped({"plays/scene-0.md": bytes(ZEROS)})
    archive.write_bytes(archive.read_bytes().replace(ZEROS.to_bytes(4, "little"), (10).to_bytes(4, "little")))
    assert "not a readable zip or tar archive (Bad CRC-32" in refusal(archive)


def spoilt() -> Iterator[tuple[str, bytes]]:
    """Archives with single bytes changed, in their headers most of all."""
    for archive in (zipped(dict([*PLAYS.items()][:2])), tape_with("plays/x.md", path="plain.tar")):
        raw = archive.read_bytes()
        raw = gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw
        for place in [*range(0, 60, 3), *range(100, 160, 5), *range(len(raw) - 200, len(raw), 7)]:
            yield archive.name, raw[:place] + bytes([raw[place] ^ 0x5A]) + raw[place + 1 :]


def test_whatever_is_in_an_archive_it_is_read_or_refused() -> None:
    met = 0
    for name, raw in [*spoilt()]:
        Path(name).write_bytes(raw)
        try:
            content = dict(archives.members(Path(name), "*", "corpus.yaml"))
        except InputError as error:
            assert name in str(error)
            met += 1
        else:
            assert sum(map(len, content.values())) < 10**5
    assert met > 20


def test_a_line_that_is_a_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of files of the user's own, too, however small they are packed."""
    monkeypatch.setattr(sources, "LINE_LIMIT_BYTES", 2**20)
    Path("bomb.jsonl.gz").write_bytes(gzip.compress(b'{"text": "' + b" " * ZEROS + b'"}\n'))
    tracemalloc.start()
    with pytest.raises(InputError, match=r"bomb\.jsonl\.gz, line 1: has more than 1048576 bytes; make several"):
        corpus.prepare(declare(files("bomb.jsonl.gz")), Path("out"))
    assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    tracemalloc.stop()
