"""A figure file -> SVG that stands inside a page: its own ids, the page's colours, nothing to fetch."""

import re
from pathlib import Path
from xml.etree import ElementTree

from analysis import style
from mlm.errors import InputError

THEMED = {
    "#ffffff": "sheet",
    style.INK: "ink",
    style.MUTED: "muted",
    style.FAINT: "faint",
    "#ececec": "faint",
    "#dfe8f1": "band",
}
"""Colours of the figures that follow the page from light to dark: colour -> variable of the style sheet."""
DROPPED = ("metadata", "style", "script", "foreignObject")


def inline(path: Path, name: str, arms: dict[str, str]) -> str:
    """The `<svg>` element of a figure.

    Args:
        path: a file that matplotlib wrote.
        name: put before every id, for a page has several figures and their ids repeat; the page's
            caption has the id `NAME-caption`.
        arms: colour -> variable of the style sheet, for the arms.

    Raises:
        InputError: the file is missing, or is no SVG.
    """
    remedy = "run `python -m analysis figures SCALE EXPERIMENT` again"
    try:
        root = ElementTree.fromstring(path.read_text(encoding="utf-8"))  # noqa: S314 - this project's own file
    except FileNotFoundError:
        raise InputError(f"{path}: missing; {remedy}") from None
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: damaged ({error}); {remedy}") from None
    variables = {colour.lower(): variable for colour, variable in (THEMED | arms).items()}
    for element in list(root.iter()):
        for child in list(element):
            if _plain(child.tag) in DROPPED:
                element.remove(child)
    for element in root.iter():
        element.tag = _plain(element.tag)  # an <svg> in HTML has no name spaces
        element.text = element.tail = None
        given = {_plain(key): value for key, value in element.attrib.items()}
        element.attrib.clear()
        element.attrib.update({key: _value(key, value, name, variables) for key, value in given.items()})
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-caption"}
    return ElementTree.tostring(root, encoding="unicode")


def _plain(tag: str) -> str:
    return tag.rpartition("}")[2]


def _value(key: str, value: str, name: str, variables: dict[str, str]) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return value.replace("#", f"#{name}-", 1)
    if key == "style":
        return re.sub(
            r"#[0-9a-f]{6}", lambda m: f"var(--{variables[m[0]]})" if m[0] in variables else m[0], value
        )
    return " ".join(value.replace("url(#", f"url(#{name}-").split())
