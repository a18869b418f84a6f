"""One HTML page to compare the curves of a scale's experiments: no network, no server, the same bytes twice.

What the page shows is computed in Python; its scripts choose, draw and format. The page loads nothing:
its policy forbids it, and lets no script run but its own.
"""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs

from analysis import comparison_content, outputs
from analysis.study import Study
from mlm.files import write_atomically

SOURCES = outputs.ROOT / outputs.COMPARISON


def write(study: Study, names: list[str]) -> None:
    """Write the page of a scale from the tables of `collect` and `contrasts`.

    Args:
        names: experiments to offer; the first is shown at first.

    Raises:
        InputError: an experiment that the study lacks, or tables missing or altered.
    """
    write_atomically(outputs.comparison(study.scale), page(comparison_content.content(study, names)))


def page(shown: Mapping[str, Any]) -> str:
    """The page; whatever names and titles hold stays text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(SOURCES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    own = [_source(name) for name in outputs.COMPARISON_SOURCES if name.endswith(".js")]
    scripts = [get_plotlyjs(), *own]
    allowed = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts)
    return environment.get_template("page.html.j2").render(
        shown=shown,
        scripts=scripts,
        style=_source("page.css"),
        policy=f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'",
    )


def _source(name: str) -> str:
    return (SOURCES / name).read_text(encoding="utf-8")


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
