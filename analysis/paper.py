"""paper/*.md and the results -> results/<scale>/paper/: Markdown, Typst source and PDF.

Jinja2 fills in the text, pandoc makes Typst of it, Typst the PDF: wheels alone, no TeX, and the same
bytes from the same results.
"""

import re
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import jinja2
import pypandoc
import typst

from analysis import manuscript, manuscript_check, numbers, outputs, provenance
from analysis.quote import Quoter
from analysis.study import Study
from mlm.errors import InputError
from mlm.files import write_atomically

SOURCE = outputs.PAPER / "paper.md"
FIGURE = re.compile(r"\]\(/(results/[^)]+)\)")
"""Path of a figure in the Markdown."""
TIMESTAMP = 1_700_000_000  # Typst writes it into the PDF; a clock would change the bytes


def write(study: Study, experiments: Sequence[str] | None = None) -> None:
    """Write paper.md, paper.typ and paper.pdf of a scale.

    Args:
        experiments: those the paper may tell of; None takes those that numbers.json holds.

    Raises:
        InputError: the source quotes a number that does not exist, or states one itself, or does not compile;
            or a table or figure was changed by hand, or made from others; names file and line.
    """
    for name in outputs.PAPER_SOURCES:
        if not (outputs.PAPER / name).exists():
            raise InputError(f"{outputs.PAPER / name}: missing; the paper needs it; restore it")
    manuscript_check.check()
    place = outputs.paper(study.scale)
    entries = numbers.load(study.scale)
    known = [name for name in study.experiments if f"{name}.setup.runs" in entries]
    told = list(experiments or known)
    for name in told:
        for step in ("table", "figures"):
            provenance.check(step, study.scale, name, study=study.stated(name))
    markdown = render(study, told, Quoter(entries))
    provenance.forget("paper", study.scale)
    write_atomically(place / "paper.md", markdown)
    source = to_typst(markdown)
    write_atomically(place / "paper.typ", source)
    write_atomically(place / "paper.pdf", to_pdf(study.scale))
    read = [outputs.numbers_file(study.scale).as_posix(), *outputs.sources(), *FIGURE.findall(markdown)]
    read += [path for name in told for path in outputs.results(study.scale, name)]
    provenance.write("paper", study.scale, read=read, wrote=outputs.files("paper", study.scale))


def render(study: Study, experiments: Sequence[str], quote: Quoter) -> str:
    """The Markdown of the paper, all numbers filled in."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(outputs.PAPER),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown, not HTML
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        # {# and {{ belong to Markdown's attributes and to formulas.
        variable_start_string="<<",
        variable_end_string=">>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
    )
    names = manuscript.vocabulary(study, experiments, quote)
    try:
        return environment.get_template(SOURCE.name).render(names)
    except jinja2.TemplateSyntaxError as error:
        raise InputError(f"{error.filename}, line {error.lineno}: {error.message}") from None
    except (InputError, jinja2.UndefinedError) as error:
        _blame(error)


def _blame(error: Exception) -> NoReturn:
    """Name the line of the source that asked for what does not exist."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f"{frame.filename}, line {frame.lineno}" for frame in frames if frame.filename.endswith(".md")]
    where = lines[-1] if lines else str(SOURCE)
    found = error.problems if isinstance(error, InputError) else (str(error),)
    raise InputError(*(f"{where}: {problem}" for problem in found)) from None


def to_typst(markdown: str) -> str:
    """Markdown -> Typst source with our template and cross-references."""
    return convert(markdown, "typst", "paper.typ.tpl")


def convert(markdown: str, to: str, template: str, *more: str) -> str:
    """Markdown -> Typst or LaTeX by a template under paper/.

    Raises:
        InputError: pandoc or our filter refuses it, as something would be lost.
    """
    options = [
        f"--template={outputs.PAPER / template}",
        f"--lua-filter={outputs.PAPER / 'paper.lua'}",
        "--wrap=none",
        "--standalone",
        "--fail-if-warnings",
        *more,
    ]
    try:
        text: str = pypandoc.convert_text(markdown, to, format="markdown", extra_args=options, sandbox=False)
    except RuntimeError as error:
        raise InputError(f"{SOURCE}: pandoc refused it: {error}") from None
    return text


def to_pdf(scale: str) -> bytes:
    """Compile paper.typ; figures and bibliography are read from the root of the study."""
    path = outputs.paper(scale) / "paper.typ"
    options: dict[str, Any] = {"root": ".", "ignore_system_fonts": True, "timestamp": TIMESTAMP}
    try:
        content = typst.compile(str(path), **options)
    except Exception as error:  # the wheel's error class is not public in all versions
        raise InputError(f"{path}: Typst refused it: {error}; the text is {SOURCE}'s") from None
    assert isinstance(content, bytes)
    return content
