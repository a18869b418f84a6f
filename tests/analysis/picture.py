"""The picture of a comparison page: python tests/analysis/picture.py results/laptop docs/comparison.png

Needs Debian's chromium. Pointing at the middle of the chart, 1400 pixels wide, down to the first table.
"""

import sys
import tempfile
from pathlib import Path

from chromium import chromium

WIDTH = 1400


def draw(page: Path, picture: Path) -> None:
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as window:
        window.size(WIDTH, 1000)
        window.media("light")
        window.open(page.resolve().as_uri())
        window.until("document.querySelector('#chart .nsewdrag')")
        place = window.box("#chart .nsewdrag")
        window.move(place["x"] + 0.47 * place["width"], place["y"] + 0.35 * place["height"])
        window.until("document.querySelector('#chart .hoverlayer').textContent")
        end = window.value("document.getElementById('ends').closest('section').getBoundingClientRect().bottom")
        window.screenshot(picture, WIDTH, round(end) + 16)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) / "comparison.html", Path(sys.argv[2]))
