"""Parts put together are the text, and every cleaning leaves prose: no markup, no tables, no code."""

import io
import json
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm import prose, sources
from mlm.cleaning import Cleaning, clean
from mlm.errors import InputError


def cleaned(cleaning: Cleaning, *texts: str, name: str = "one") -> dict[str, str]:
    """document -> its text, of documents called `name` that hold `texts`."""
    return {d: "".join(parts) for d, parts in clean(iter([(name, [text]) for text in texts]), cleaning)}


# Parts


@given(
    text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\ufeff"), max_size=300),
    part=st.integers(1, 40),
)
def test_parts_put_together_are_the_text(text: str, part: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "PART_CHARACTERS", part)
        parts = list(sources.parts(io.BytesIO(text.encode()), "here"))
    assert "".join(parts) == text
    assert all(parts)


@given(
    st.lists(st.text("ab c", min_size=1, max_size=12), min_size=1, max_size=40),
    st.integers(13, 30),
    st.sampled_from(["", "\n"]),
)
def test_parts_are_cut_where_lines_end_while_lines_are_short(lines: list[str], part: int, end: str) -> None:
    text = "\n".join(lines) + end
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "PART_CHARACTERS", part)
        parts = list(sources.parts(io.BytesIO(text.encode()), "here"))
    assert all(p.endswith("\n") for p in parts[:-1])
    assert all(len(p) <= 2 * part for p in parts)


@pytest.mark.parametrize("text", ["It was the best of times", "One.\nTwo three four", "One.\n\n", " ", "a"])
def test_what_fits_in_a_part_is_one(text: str) -> None:
    assert list(sources.parts(io.BytesIO(text.encode()), "here")) == [text]


@pytest.mark.parametrize("cleaning", ["paragraphs", "markdown_play"])
def test_a_line_without_an_end_stays_whole(cleaning: Cleaning) -> None:
    text = sources.parts(io.BytesIO(b"To be or *not* to be"), "here")
    [(_, parts)] = clean(iter([("one", text)]), cleaning)
    assert list(parts) == ["To be or not to be\n"]


def test_line_ends_and_byte_order_marks_of_other_systems() -> None:
    raw = "\ufeffone\r\ntwo\rthree\n".encode()
    assert "".join(sources.parts(io.BytesIO(raw), "here")) == "one\ntwo\nthree\n"


# Plays, books, speeches


PLAY = """# ACT 1
## SCENE 2. A room\\


**HAMLET**\\
To *be*, or _not_ to be,
  that is the __question__.\\


_Exit_

**GHOST**
Mark me.
"""


def test_markdown_becomes_plain_text_with_one_blank_line_between_speeches() -> None:
    assert cleaned("markdown_play", PLAY) == {
        "one": (
            "ACT 1\nSCENE 2. A room\n\nHAMLET\nTo be, or not to be,\nthat is the question.\n\nExit\n\n"
            "GHOST\nMark me.\n"
        )
    }


@given(st.integers(1, 60))
def test_cleaning_does_not_depend_on_where_the_parts_are_cut(part: int) -> None:
    for play in (PLAY, PLAY.removesuffix("\n")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sources, "PART_CHARACTERS", max(part, 30))  # longer than every line
            parts = sources.parts(io.BytesIO(play.encode()), "here")
            [(_, texts)] = clean(iter([("one", parts)]), "markdown_play")
            assert {"one": "".join(texts)} == cleaned("markdown_play", PLAY)


def test_a_paragraph_a_line_without_marks_of_footnotes() -> None:
    book = "CHAPTER 1. Loomings.\n\nCall me  Ishmael.*\n\n     *Some years      ago.\n"
    assert cleaned("paragraphs", book) == {"one": "CHAPTER 1. Loomings.\nCall me Ishmael.\nSome years ago.\n"}


def test_a_sentence_a_line() -> None:
    speech = (
        'Mr. Speaker, I thank you. "It is done." 30 men of the U. S. Army, led by Gen. Grant, came! '
        "[Applause] Why?[1] The sum [of 1862] was ____ 3 4. [Footnote 1: A table. Not read.] &quot;Yes.&quot; "
        "(Laughter.) Receipts 1,000 2,000 3,000 4,000. The end."
    )
    assert cleaned("speech", speech)["one"].splitlines() == [
        "Mr. Speaker, I thank you.",
        '"It is done."',
        "30 men of the U. S. Army, led by Gen. Grant, came!",
        "Why?",
        '"Yes."',
        "The end.",
    ]


BIBLE = """from x import Bible
raise SystemExit
bible = Bible(
    Version.KJV,
    '''
In the beginning [was] light. And night.
Then came day. The end.''',
    {1001001: 1, 1001002: 31, 2001001: 42, 2001002: 57},
    {1001001: 30, 1001002: 41, 2001001: 56, 2001002: 65},
    {Book.A: {1: 2}, Book.B: {1: 2}},
    {Book.A: "First", Book.B: "Second"},
    {Book.A: "The First Book", Book.B: "The Second Book"},
)
"""


def test_a_bible_is_a_document_a_book_and_is_never_run() -> None:
    assert cleaned("bible", BIBLE) == {
        "First": "In the beginning was light.\nAnd night.\n",
        "Second": "Then came day.\nThe end.\n",
    }


@pytest.mark.parametrize("text", ["bible = 1", "an essay", "{1: 2}"])
def test_another_module_is_no_bible(text: str) -> None:
    with pytest.raises(InputError, match="one: not a Bible module"):
        cleaned("bible", text)


# Wikipedia

ARTICLE = """{{Infobox|name={{lang|x}}
|text=It is not a sentence of the article at all.}}
[[File:A.jpg|thumb|A picture of [[something]] that is described here at some length.]]
'''Albedo''' ({{IPA|x}}) is, says [[J. Lambert|Lambert]],<ref>{{y}}</ref> a ''measure'' of&nbsp;light.<ref />
<!-- A comment that nobody ought to read in print, ever. -->
== Use ==
{| class="wikitable"
| A table has cells and may have a sentence in one of them.
|}
* A list has items and may have a sentence in one of them.
See [http://example.org the page of the society] and [[plain link]]s for more about that.
The formula is <math>a = b</math> and the next paragraph is too short.
Too short.
==References==
This sentence belongs to the references and is therefore left out.
[[Category:Light]]
"""


def test_prose_of_an_article() -> None:
    assert list(prose.of_wikitext(ARTICLE)) == [
        "Albedo is, says Lambert, a measure of light.",
        "See the page of the society and plain links for more about that.",
        "The formula is and the next paragraph is too short.",
    ]


def export(*pages: str) -> str:
    return f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">{"".join(pages)}</mediawiki>'


def page(title: str, text: str, space: int = 0, redirect: str = "") -> str:
    inside = f"<title>{title}</title><ns>{space}</ns>{redirect}<revision><text>{text}</text></revision>"
    return f"<page>{inside}</page>"


def test_articles_of_an_export() -> None:
    long = "This is a sentence of some length in an article.\n" * 30
    raw = export(
        page("Light", long),
        page("Talk:Light", long, space=1),
        page("Lamp", long, redirect='<redirect title="Light"/>'),
        page("Stub", "This is a sentence of some length in an article."),
        page("Dark", long),
    )
    assert cleaned("wikipedia", raw) == {"Light": long, "Dark": long}
    found = {d: "".join(parts) for d, parts in clean(iter([("one", list(raw))]), "wikipedia")}
    assert found == cleaned("wikipedia", raw)  # wherever the parts are cut
    with pytest.raises(InputError, match="one: not a MediaWiki export"):
        cleaned("wikipedia", raw[: len(raw) // 2] + "</page>")


@pytest.mark.parametrize("cut", ["</mediawiki>", "</page></mediawiki>", "Dark"])
def test_an_export_that_ends_too_early(cut: str) -> None:
    long = "This is a sentence of some length in an article.\n" * 30
    raw = export(page("Light", long), page("Dark", long))
    with pytest.raises(InputError, match="one: not a MediaWiki export"):
        cleaned("wikipedia", raw[: raw.index(cut)])


def test_pages_that_were_read_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    roots: list[ElementTree.Element] = []

    class Watched(ElementTree.XMLPullParser):
        def read_events(self) -> Iterator[Any]:
            for event, element in super().read_events():
                roots.extend(() if roots else [element])
                yield event, element

    monkeypatch.setattr(ElementTree, "XMLPullParser", Watched)
    long = "This is a sentence of some length in an article.\n" * 30
    raw = export(*(page(f"Page {number}", long) for number in range(30)))
    for _ in clean(iter([("one", list(raw))]), "wikipedia"):
        assert roots[0].tag.endswith("}mediawiki")
        assert len(roots[0]) <= 1


@given(st.text("ab{}|[]='<>/ref \n", max_size=80))
def test_no_wikitext_breaks_the_reader_or_leaves_its_marks(text: str) -> None:
    for line in prose.of_wikitext("These are eight words " + text + " and a full stop here."):
        assert not set(line) & set("[]{}|<>=")


# AWS


@pytest.mark.parametrize(
    ("html", "lines"),
    [
        ("<p>Creates a <code>Lambda</code> function in &lt;</p>", []),
        (
            "<p>Creates a <code>Lambda</code> function,\n in <a href='u'>the  guide</a>.</p>",
            ["Creates a Lambda function, in the guide."],
        ),
        ("<p>The valid values are:</p><ul><li>ONE</li><li> <p>A second value.</p> </li></ul>", []),
        ("<ul><li>ONE</li><li> <p>A second value is here.</p> </li></ul>", ["A second value is here."]),
        ("<p>An example follows now.</p><pre>aws s3 ls is a command.</pre>", ["An example follows now."]),
        ("<fullname>A Service of Services.</fullname><p>It serves you well.</p>", ["It serves you well."]),
        ('<p>Set it to {"a": 1} in the file.</p>', []),
        ("<p>Read it at https://example.org/a today.</p>", []),
        ("One two three.", []),
    ],
)
def test_prose_of_a_description(html: str, lines: list[str]) -> None:
    assert list(prose.of_html(html)) == lines


def service(*texts: str) -> str:
    shapes = {f"S{i}": {"type": "string", "documentation": f"<p>{text}</p>"} for i, text in enumerate(texts)}
    return json.dumps({"metadata": {"documentation": 3}, "shapes": shapes, "examples": ["no text at all."]})


def test_a_document_a_service_of_its_newest_version_and_each_line_once() -> None:
    described = [
        ("data/a/2014-01-01/service.json", [service("The old text of this.")]),
        ("data/a/2020-01-01/service.json", [service("The name of the thing.", "The kind of the thing.")]),
        ("data/b/2020-01-01/service.json", [service("The name of the thing.", "The size of the thing.")]),
    ]
    assert {d: "".join(parts) for d, parts in clean(iter(described), "aws")} == {
        "a": "The name of the thing.\nThe kind of the thing.\n",
        "b": "The size of the thing.\n",
    }
    with pytest.raises(InputError, match="a/b/c: not JSON"):
        cleaned("aws", "nothing", name="a/b/c")


@given(st.text("ab<>/pre&;code \n.", max_size=80))
def test_no_html_breaks_the_reader(text: str) -> None:
    for line in prose.of_html("<p>Four words are here " + text + " and a full stop.</p>"):
        assert not set(line) & set("<>\n")
