"""Documents of a source -> documents of plain text: one small function for each kind of source."""

import ast
import html
import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby
from pathlib import PurePosixPath
from typing import Any, Literal
from xml.etree import ElementTree

from mlm import duplicates, prose, sources
from mlm.errors import InputError
from mlm.sources import Documents

Cleaning = Literal["none", "markdown_play", "paragraphs", "speech", "bible", "wikipedia", "aws"]


def clean(documents: Documents, cleaning: Cleaning) -> Documents:
    """Plain text of the documents; some cleanings take one document apart into many, or join several."""
    return CLEANERS[cleaning](documents)


def _none(documents: Documents) -> Documents:
    for document, parts in documents:
        yield document, (part for part in parts if part.strip())


def _markdown_play(documents: Documents) -> Documents:
    for document, parts in documents:
        yield document, _play(parts)


def _play(parts: Iterable[str]) -> Iterator[str]:
    """Markdown of a play -> plain text, one blank line between speeches."""
    blank = True
    for part in parts:
        lines = []
        for line in part.removesuffix("\n").split("\n"):
            text = re.sub(r"[*_\\]+", "", re.sub(r"^#+\s*", "", line)).strip()
            if text or not blank:
                lines.append(text)
            blank = not text
        if any(lines):
            yield "\n".join(lines) + "\n"


def _paragraphs(documents: Documents) -> Documents:
    """A paragraph a line; asterisks that mark footnotes and runs of blanks go."""
    for document, parts in documents:
        lines = (line for part in parts for line in part.split("\n"))
        yield document, _in_parts(" ".join(line.replace("*", "").split()) for line in lines)


SENTENCE_END = re.compile(
    r"""(?: (?<=[.?!]) | (?<=[.?!]["”’')\]]) )     # behind a full stop, inside or outside of a quotation,
    (?<! \b[A-Z]\. ) (?<! \b(?:Mr|Dr|No|St)\. ) (?<! \b(?:Mrs|Gen|Hon|Sec|Art)\. ) (?<! Messrs\. )
    \s+ (?= ["“‘'(\[]* [A-Z0-9] )                  # and before a capital or a number""",
    re.VERBOSE,
)
EDITORIAL = re.compile(
    r"\[(?:footnote|at this point|laughter|applause|missing|p\.)[^\]]*\]|\[\d+\]|\((?:laughter|applause)\.?\)",
    re.IGNORECASE,
)


def _speech(documents: Documents) -> Documents:
    """A sentence a line, without editors' notes and rows of tables; the sources have no paragraphs."""
    for document, parts in documents:
        text = EDITORIAL.sub("", html.unescape("".join(parts)))
        yield document, _in_parts(line for line in map(_joined, SENTENCE_END.split(text)) if _is_worded(line))


def _joined(text: str) -> str:
    return " ".join(text.split())


def _is_worded(line: str) -> bool:
    return "__" not in line and 2 * sum(map(str.isalpha, line)) >= len(line)


def _bible(documents: Documents) -> Documents:
    """A Python module of pythonbible -> a document a book, a verse a line.

    The module is parsed, never run. It holds the whole text, where in it each verse begins and ends
    (keys: book, chapter, verse as BBCCCVVV), and the names of the books in their order.
    """
    for document, parts in documents:
        try:
            nodes = list(ast.walk(ast.parse("".join(parts))))
            tables = [node for node in nodes if isinstance(node, ast.Dict)]
            verses = [table for table in tables if all(isinstance(key, ast.Constant) for key in table.keys)]
            begins, ends = (ast.literal_eval(table) for table in verses[:2])
            named = [table for table in tables if all(isinstance(v, ast.Constant) for v in table.values)]
            names = [ast.literal_eval(name) for name in next(t for t in named if t not in verses).values]
            texts = [str(node.value) for node in nodes if isinstance(node, ast.Constant)]
        except (SyntaxError, ValueError, StopIteration):
            raise InputError(
                f"{document}: not a Bible module of pythonbible; `cleaning: bible` reads no other"
            ) from None
        text = max(texts, key=len)
        for number, name in enumerate(names, start=1):
            mine = sorted(verse for verse in begins if verse // 1_000_000 == number)
            # Words that the translators added stand in brackets, which print shows as italics.
            lines = (re.sub(r"[\[\]]", "", text[begins[verse] : ends[verse]]) for verse in mine)
            yield name, _in_parts(map(_joined, lines))


def _wikipedia(documents: Documents) -> Documents:
    """A MediaWiki export -> the prose of its articles, a document each."""
    for document, parts in documents:
        for title, text in _articles(parts, document):
            lines = list(prose.of_wikitext(text))
            if sum(map(len, lines)) >= SHORTEST_ARTICLE:
                yield title, _in_parts(lines)


SHORTEST_ARTICLE = 1000
"""Characters of prose; what is shorter is a list or a notice."""


def _articles(parts: Iterable[str], document: str) -> Iterator[tuple[str, str]]:
    parser: Any = ElementTree.XMLPullParser(("start", "end"))  # the archive is verified
    root: Any = None
    try:
        for part in chain(parts, [None]):
            parser.close() if part is None else parser.feed(part)
            for event, element in parser.read_events():
                root = element if root is None else root
                if event == "end" and element.tag.endswith("}page"):
                    if element.find("{*}redirect") is None and element.findtext("{*}ns") == "0":
                        yield element.findtext("{*}title", ""), element.findtext(".//{*}text", "")
                    root.clear()  # pages that were read are not kept
    except ElementTree.ParseError as error:
        raise InputError(f"{document}: not a MediaWiki export ({error})") from None


def _aws(documents: Documents) -> Documents:
    """Service descriptions of botocore -> the prose of their documentation, a document a service.

    The newest version of a service stands for it, and a line that stood anywhere before is left out:
    services share much of their text.
    """
    seen: set[bytes] = set()
    for service, versions in groupby(documents, key=lambda found: PurePosixPath(found[0]).parent.parent.name):
        for document, parts in versions:
            newest = (document, "".join(parts))  # read here: a member's stream ends with its turn
        try:
            description = json.loads(newest[1])
        except ValueError as error:
            raise InputError(f"{newest[0]}: not JSON ({error})") from None
        texts = (line for entry in _documentation(description) for line in prose.of_html(entry))
        yield service, _in_parts(_unseen(texts, seen))


def _documentation(tree: Any) -> Iterator[str]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        if key == "documentation" and isinstance(value, str):
            yield value
        elif isinstance(value, dict | list):
            yield from _documentation(value)


def _unseen(lines: Iterable[str], seen: set[bytes]) -> Iterator[str]:
    for line in lines:
        key = duplicates.fingerprint(line)
        if key not in seen:
            seen.add(key)
            yield line


def _in_parts(lines: Iterable[str]) -> Iterator[str]:
    """Lines that hold something, joined to parts of at least PART_CHARACTERS."""
    waiting: list[str] = []
    size = 0
    for line in lines:
        if line:
            waiting.append(line + "\n")
            size += len(line) + 1
        if size >= sources.PART_CHARACTERS:
            yield "".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield "".join(waiting)


CLEANERS: dict[Cleaning, Callable[[Documents], Documents]] = {
    "none": _none,
    "markdown_play": _markdown_play,
    "paragraphs": _paragraphs,
    "speech": _speech,
    "bible": _bible,
    "wikipedia": _wikipedia,
    "aws": _aws,
}
