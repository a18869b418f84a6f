"""The LaTeX bundle: what would be lost is refused, pages are read, and the archive has the same bytes."""

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from synthetic_results import EXPERIMENT, Synthetic

from analysis import arxiv, latex_characters, latex_log, numbers, outputs, paper, study
from mlm.errors import InputError

Make = Callable[..., Synthetic]
needs_latex = pytest.mark.skipif(shutil.which(arxiv.COMPILER) is None, reason="latexmk is not installed")
HEAD = "---\ntitle: x\ntitle-plain: x\nabstract: y\n---\n\n"


@pytest.fixture
def ready(analysed: Make) -> Synthetic:
    made = analysed(seeds=2, evidence=False, effects={"80-10-10": 0.0, "100-0-0": -0.03})
    for name in outputs.files("figures", made.scale, EXPERIMENT):
        path = made.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Figure(figsize=(2, 1)).savefig(path, metadata={"CreationDate": None} if path.suffix == ".pdf" else None)
    planned = study.load(made.scale)
    numbers.write(planned, [EXPERIMENT])
    paper.write(planned)
    return made


def bundle(folder: Path, markdown: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "paper.tex").write_text(arxiv.to_latex(HEAD + markdown))
    shutil.copy(outputs.PAPER / "refs.bib", folder)
    return folder


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("So it is [see @holm1979].", "holm1979"),
        ("A tag of <angle> kind.", "raw html would be lost.*<angle>"),
        ("<hr>\n\nA block.\n", "raw html would be lost.*<hr>"),
        ("Raw \\emph{LaTeX} here.", "raw tex would be lost.*emph"),
        ("# A {#sec:a}\n\nAs [@holm1979; @sec:a] say.", "a citation and a reference in one bracket"),
        ("# A {#sec:a}\n\nAs [@sec:a, above] says.", "sec:a"),
        ("As [@holm1979, section 2] says.", "put them outside: holm1979"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("convert", [paper.to_typst, arxiv.to_latex], ids=["typst", "latex"])
def test_what_one_writer_would_drop_stops_the_build(
    convert: Callable[[str], str], text: str, problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        convert(HEAD + text)


def test_a_character_that_pdflatex_lacks_is_named_with_its_line() -> None:
    latex_characters.check("ä – − Δ ≤ x² ẞ Kučera ±", "paper.tex")
    with pytest.raises(InputError) as refused:
        latex_characters.check("fine\nthe word 語 and\n☃", "a/paper.tex")
    assert [problem.partition(" in ")[0] for problem in refused.value.problems] == [
        "a/paper.tex, line 2: pdflatex has no '語' (CJK UNIFIED IDEOGRAPH-8A9E)",
        "a/paper.tex, line 3: pdflatex has no '☃' (SNOWMAN)",
    ]


def test_the_log_is_read_for_what_a_reader_would_see() -> None:
    log = """
LaTeX Warning: Reference `fig:a' on page 1 undefined on input line 7.
Package natbib Warning: Citation `b' on page 2 undefined on input line 8.
LaTeX Warning: Label `c' multiply defined.
Overfull \\hbox (12.3pt too wide) in paragraph at lines 9--11
Underfull \\hbox (badness 10000) in paragraph at lines 9--11
Missing character: There is no ☃ in font x!
LaTeX Font Warning: Some font shapes were not available, defaults substituted.
"""
    assert [problem.partition(":")[0] for problem in latex_log.problems(log)] == [
        "undefined reference", "undefined citation", "label", "text over the margin",
        "character that the font lacks",
    ]  # fmt: skip
    stopped = log + "! Undefined control sequence.\nl.12 \\nothing\n"
    assert latex_log.problems(stopped) == ["error, line 12: Undefined control sequence."]
    assert latex_log.problems("All is well.\n") == []


def test_an_archive_depends_on_names_and_contents_alone() -> None:
    files = {"b/c.pdf": b"2", "a.tex": b"1"}
    content = arxiv.archive(files)
    assert content == arxiv.archive(dict(reversed(files.items())))
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert [(m.name, m.mtime, m.uid, m.uname, m.mode) for m in tar] == [
            (name, paper.TIMESTAMP, 0, "", 0o644) for name in ("a.tex", "b/c.pdf")
        ]


def test_without_latex_there_is_a_bundle_that_says_the_same(
    ready: Synthetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arxiv, "COMPILER", "no-such-latexmk")
    written = [path.as_posix() for path in arxiv.write(ready.scale)]
    place = outputs.arxiv(ready.scale)
    tex = (place / "paper.tex").read_text()
    assert f"{place}/paper.pdf" not in written and f"{place}/arxiv.tar.gz" in written
    markdown = (outputs.paper(ready.scale) / "paper.md").read_text()
    for label in ("tbl:split-contrasts", "fig:split-curves", "sec:split", "eq:count", "tbl:ledger"):
        assert f"#{label}}}" in markdown and f"\\label{{{label}}}" in tex
    assert (place / "figures/split/curves.pdf").read_bytes().startswith(b"%PDF")
    (outputs.paper(ready.scale) / "paper.md").write_text(markdown + "\n\nA 語.\n")
    with pytest.raises(InputError, match="CJK"):
        arxiv.write(ready.scale)
    (outputs.paper(ready.scale) / "paper.md").unlink()
    with pytest.raises(InputError, match=r"paper.md: missing; make the paper first"):
        arxiv.write(ready.scale)


@needs_latex
def test_latex_compiles_the_paper_and_the_archive_is_the_same_twice(ready: Synthetic) -> None:
    bits = []
    for _ in range(2):
        written = arxiv.write(ready.scale)
        bits.append([path.read_bytes() for path in written])
    assert bits[0] == bits[1]
    with tarfile.open(outputs.arxiv(ready.scale) / "arxiv.tar.gz") as tar:
        names = tar.getnames()
    assert {"paper.tex", "paper.bbl", "refs.bib", "figures/split/contrasts.pdf"} <= set(names)
    assert (outputs.arxiv(ready.scale) / "paper.pdf").read_bytes().startswith(b"%PDF")


@needs_latex
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("As [@fig:nothing] shows.", "undefined reference: .*fig:nothing"),
        ("As others say [@nobody1900].", "undefined citation: .*nobody1900"),
        (f"A long ${'x' * 300}$ word.", r"text over the margin: Overfull"),
    ],
)
def test_pages_that_are_not_as_they_should_be_stop_the_build(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        arxiv.compiled(bundle(tmp_path / "bundle", text))


@needs_latex
def test_all_characters_that_are_let_through_can_be_printed(tmp_path: Path) -> None:
    characters = [*latex_characters.MATHS, *latex_characters.FONT]
    lines = "\n\n".join(" ".join(characters[i : i + 20]) for i in range(0, len(characters), 20))
    code = "split.contrast.100-0-0.very_long_names.probe.accuracy.difference"
    table = f"| id | words |\n| :--- | :--- |\n| `{code}` | {'much text ' * 40} |\n\n: Wide. {{#tbl:wide}}\n"
    found = arxiv.compiled(
        bundle(tmp_path / "bundle", f"{lines}\n\n{table}\n\n[@holm1979]\n\n::: {{#refs}}\n:::\n")
    )
    assert found["paper.pdf"].startswith(b"%PDF") and b"holm1979" in found["paper.bbl"]
