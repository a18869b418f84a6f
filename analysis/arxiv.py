"""paper.md -> results/<scale>/paper/arxiv/: LaTeX, figures and bibliography, and all of it in one archive.

The same Markdown as the PDF's. Where latexmk is installed, the bundle is compiled and its log is read: what is
over the margin, or points at nothing, stops the build. The archive has the same bytes whenever it is made.
"""

import gzip
import io
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from analysis import latex_characters, latex_log, outputs, paper
from mlm.errors import InputError
from mlm.files import write_atomically
from mlm.layout import RESULTS

FIGURE = re.compile(r"\\includegraphics\[[^]]*\]\{([^}]+)\}")
COMPILER = "latexmk"
MOST_SECONDS = 600


def write(scale: str) -> list[Path]:
    """Write the bundle and `arxiv.tar.gz` of it, and compile it where there is a LaTeX.

    Returns:
        What was written.

    Raises:
        InputError: there is no paper yet, a figure is missing, a character cannot be printed, or pages are
            not as they should be; names each place.
    """
    source, place = outputs.paper(scale) / "paper.md", outputs.arxiv(scale)
    if not source.exists():
        raise InputError(
            f"{source}: missing; make the paper first: `snakemake --cores all --config scale={scale}`"
        )
    tex = to_latex(source.read_text(encoding="utf-8"))
    latex_characters.check(tex, str(place / "paper.tex"))
    files = {"paper.tex": tex.encode(), "refs.bib": (outputs.PAPER / "refs.bib").read_bytes()}
    for name in FIGURE.findall(tex):
        path = RESULTS / scale / name
        if not path.exists():
            raise InputError(f"{path}: missing; run `snakemake --cores all --config scale={scale}`")
        files[name] = path.read_bytes()
    shutil.rmtree(place, ignore_errors=True)
    for name, content in files.items():
        write_atomically(place / name, content)
    if shutil.which(COMPILER):
        for name, content in compiled(place).items():
            write_atomically(place / name, content)
            if name.endswith(".bbl"):  # spares arXiv a run of BibTeX
                files[name] = content
    write_atomically(place / "arxiv.tar.gz", archive(files))
    return sorted(path for path in place.rglob("*") if path.is_file())


def to_latex(markdown: str) -> str:
    """Markdown -> LaTeX source with our template and cross-references."""
    characters = f"--variable=characters={latex_characters.declarations()}"
    return paper.convert(markdown, "latex", "paper.tex.tpl", "--natbib", characters)


def compiled(place: Path) -> dict[str, bytes]:
    """The bundle's PDF and bibliography as LaTeX makes them, from a copy.

    Raises:
        InputError: LaTeX fails, or its log tells of something that a reader would see.
    """
    with tempfile.TemporaryDirectory() as room:
        there = Path(room) / "bundle"
        shutil.copytree(place, there)
        environment = os.environ | {
            "max_print_line": "10000", "SOURCE_DATE_EPOCH": str(paper.TIMESTAMP), "FORCE_SOURCE_DATE": "1",
        }  # fmt: skip
        command = [COMPILER, "-pdf", "-norc", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
        try:
            done = subprocess.run(
                command, cwd=there, env=environment, capture_output=True, timeout=MOST_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise InputError(f"{place / 'paper.tex'}: {COMPILER} took over {MOST_SECONDS} s") from None
        log = there / "paper.log"
        text = log.read_text(encoding="latin-1") if log.exists() else ""
        found = latex_log.problems(text)
        if done.returncode and not found:
            found = [done.stdout.decode("utf-8", "replace")[-500:].strip() or f"status {done.returncode}"]
        if found:
            raise InputError(*(f"{place / 'paper.tex'}: {problem}" for problem in found))
        return {name: (there / name).read_bytes() for name in ("paper.bbl", "paper.pdf")}


def archive(files: dict[str, bytes]) -> bytes:
    """A .tar.gz that depends on names and contents alone: sorted, of nobody, of no time."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(content), paper.TIMESTAMP, 0o644
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(inner.getvalue(), mtime=paper.TIMESTAMP)
