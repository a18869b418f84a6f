"""The paper's sources: a number of ours that somebody typed stops the build and is named with its line."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_results import REPOSITORY

from analysis import manuscript_check
from mlm.errors import InputError

FREE = "# Method {#sec:method}\n\nOf 15 % and 0.5, `x`.\n\n## Statistics {#sec:statistics}\n\nAt 0.05.\n\n"
RESULTS = "# Experiments {#sec:results}\n\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sources of the paper, to write into."""
    for name in ("paper", "experiments"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_sources_of_this_repository_pass(place: Path) -> None:
    manuscript_check.check()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("It rises to 0.72.", ["0.72"]),
        ("It rises by −0.03 or .5 points,", ["−0.03", ".5"]),
        ("of 1,234.5 tokens", ["1,234.5"]),
        ("12 % and 12% and 12\\ % and 3.5\u00a0%", ["12 %", "12 %", "12 %", "3.5 %"]),
        ("(0.7), *0.8*, **0.9** and |0.6|", ["0.7", "0.8", "0.9", "0.6"]),
        ("the 95 % interval", []),
        ("the 80/10/10 split of 3 runs in [@tbl:split-0.5], [@devlin2019bert, section 3.1]", []),
        ("$0.1 \\cdot 0.9$, `rate: .4`, << num('a.0.5.b') >>, <% if x > 0.5 %>, <# 0.5 #>", []),
        ("torch 2.13.0, version 1.2.3 of section A.2", []),
        ("arXiv 1810.04805 and https://example.org/1.5", []),
        ("$$ 0.5 \\\\\n 0.6 $$ {#eq:x} and 0.7", ["0.7"]),
        ("```\n0.5\n```\nand 0.7", ["0.7"]),
        ("a $x$ of 0.4 and $y$", ["0.4"]),
    ],
)
def test_what_is_a_number_of_ours_and_what_is_not(words: str, found: list[str]) -> None:
    assert [number for _, number in manuscript_check.typed(words)] == found
    lines = [line for line, _ in manuscript_check.typed(f"{FREE}{RESULTS}{words}")]
    assert len(lines) == len(found) and all(line > 10 for line in lines)


@given(st.decimals(-1000, 1000, allow_nan=False, places=3), st.sampled_from(["", "Behind text ", "* ", "= "]))
def test_every_decimal_is_seen_at_its_line_behind_whatever_is_skipped(number: object, before: str) -> None:
    text = f"{FREE}{RESULTS}<< num(\n'x') >>\n$$\n1.5\n$$\n{before}{number} `1.5`\n"
    assert list(manuscript_check.typed(text)) == [(len(text.splitlines()), str(number))]


@pytest.mark.parametrize("file", ["paper.md", "experiment.md", "experiments/split.md"])
def test_a_typed_number_is_named_with_file_and_line(place: Path, file: str) -> None:
    path = place / "paper" / file
    lines = path.read_text().splitlines()
    at = next((i for i, line in enumerate(lines) if "{#sec:results}" in line), 0) + 2
    lines.insert(at, "The accuracy is 0.731, 12 % more.")
    path.write_text("\n".join(lines))
    with pytest.raises(InputError) as found:
        manuscript_check.check()
    assert len(found.value.problems) == 2
    assert found.value.problems[0].startswith(f"paper/{file}, line {at + 1}: the number 0.731 is written into")
    assert found.value.problems[1].startswith(f"paper/{file}, line {at + 1}: the number 12 % is written into")


def test_a_published_table_that_no_text_inserts_and_remarks_on_nothing_are_refused(place: Path) -> None:
    published = place / "paper" / "published.yaml"
    published.write_text(published.read_text().replace("c2:", "c3:", 1))
    (place / "paper" / "experiments" / "splat.md").write_text("Nothing.\n")
    with pytest.raises(InputError) as found:
        manuscript_check.check()
    assert [problem.partition(";")[0] for problem in found.value.problems] == [
        "paper/published.yaml: c3: no text of the paper inserts it",
        "paper/experiments/splat.md: there is no experiment splat",
    ]
