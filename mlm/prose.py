"""Markup -> the lines of its prose: no tables, lists of links, references or code."""

import html
import re
from collections.abc import Iterator
from html.parser import HTMLParser

# HTML, as descriptions of services use it

BLOCKS = frozenset((
    "p", "div", "section", "br", "ul", "ol", "li", "dl", "dt", "dd", "table", "tr", "td", "th", "note",
    "important", "h1", "h2", "h3", "h4", "h5", "h6",
))  # fmt: skip
DROPPED = frozenset(("pre", "fullname", "script", "style"))


def of_html(text: str) -> Iterator[str]:
    """Sentences and paragraphs of an HTML fragment, one a line.

    Blocks of code and lines that are no sentence (names of values, headings, examples of JSON) are
    left out; a code word inside a sentence stays.
    """
    parser = _Paragraphs()
    parser.feed(text)
    parser.close()
    for paragraph in "".join(parser.text).split("\n"):
        line = " ".join(paragraph.split())
        if _is_sentence(line):
            yield line


class _Paragraphs(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text: list[str] = []
        self.dropped = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in DROPPED:
            self.dropped += 1
        if tag in BLOCKS or tag in DROPPED:
            self.text.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in DROPPED:
            self.dropped = max(self.dropped - 1, 0)
        if tag in BLOCKS or tag in DROPPED:
            self.text.append("\n")

    def handle_data(self, data: str) -> None:
        if not self.dropped:
            self.text.append(data.replace("\n", " "))


def _is_sentence(line: str) -> bool:
    words = line.split()
    return (
        len(words) >= 4
        and line[-1] in ".?!"
        and not re.search(r'[{}<>|\\`]|="|":|://|=>|==', line)
        and sum(map(str.isalpha, line)) > 0.7 * len(line)
    )


# Wikitext

LAST_SECTIONS = (
    "see also|references|notes|footnotes|sources|further reading|external links|bibliography|citations"
)


def of_wikitext(text: str) -> Iterator[str]:
    """Paragraphs of an article, one a line; headings, lists, tables, notes and formulas are left out."""
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"<ref\b[^<>]*/>", "", text, flags=re.IGNORECASE)
    block = r"<(ref|math|gallery|pre|source|timeline|blockquote|nowiki|imagemap)\b[^<>]*>.*?</\1\s*>"
    text = re.sub(block, "", text, flags=re.DOTALL | re.IGNORECASE)
    last = re.compile(rf"^==+\s*(?:{LAST_SECTIONS})\s*==+\s*$", re.MULTILINE | re.IGNORECASE)
    text = last.split(text, maxsplit=1)[0]
    text = _without(text, "{{", "}}")
    text = _without(text, "{|", "|}")
    text = _without(text, "[[", "]]", r"\[\[\s*(?:File|Image|Category|[a-z-]{2,12}):")
    text = re.sub(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]", r"\1", text)
    text = re.sub(r"\[(?:https?:)?//[^\s\]]+\s*([^\]]*)\]", r"\1", text)
    text = html.unescape(re.sub(r"<[^<>]*>", "", text))
    for paragraph in text.split("\n"):
        line = " ".join(re.sub(r"'{2,}", "", paragraph).split())
        line = re.sub(r"\(\s*[;,]?\s*\)|(?<=\()\s*[;,]\s*", "", line)  # what a template leaves in parentheses
        line = re.sub(r"\s+([.,;:)])", r"\1", " ".join(line.split()))
        ended = len(line.split()) >= 8 and line[0] not in "=*#:;|!{}" and line[-1] in '.?!"”)'
        if ended and not re.search(r"[\[\]{}|<>=]|://", line):
            yield line


def _without(text: str, opening: str, closing: str, begins: str = "") -> str:
    """The text without what stands between marks, which nest; only where it `begins` so, if that is given.

    What is never closed takes the rest of the text along: less prose, but no markup.
    """
    begin = re.compile(begins)
    kept: list[str] = []
    done = depth = 0
    for mark in re.finditer(f"{re.escape(opening)}|{re.escape(closing)}", text):
        if mark[0] == opening and depth:
            depth += 1
        elif mark[0] == opening and begin.match(text, mark.start()):
            kept.append(text[done : mark.start()])
            depth = 1
        elif mark[0] == closing and depth:
            depth -= 1
            done = mark.end()
    return "".join(kept) + ("" if depth else text[done:])
