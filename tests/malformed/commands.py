"""Commands as a person types them, run in this process, which loads everything only once."""

import contextlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from analysis.__main__ import app
from analysis.__main__ import main as analysis
from mlm import pipeline
from mlm.__main__ import main as mlm

CONFIG = "--config"
"""First word of what Snakemake is told: settings of a study, as `scale=test`."""
SURROUNDINGS = {"WANDB_MODE": "disabled", "PIP_NO_INDEX": "1", "npm_config_offline": "true", "COLUMNS": "1000"}
"""Nothing is fetched or published, and lines are as wide as they need to be."""


@dataclass(frozen=True)
class Told:
    """How a command ended."""

    code: int
    said: str
    """On standard error."""
    printed: str = ""
    """On standard output."""


def typed(place: Path, *words: str) -> Told:
    """`python -m WORDS` in a folder; of `--config KEY=VALUE …` what the Snakefile does first."""
    said, printed = io.StringIO(), io.StringIO()
    code: Any = 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(place))
        stack.enter_context(mock.patch.dict(os.environ, SURROUNDINGS))
        stack.enter_context(contextlib.redirect_stderr(said))
        stack.enter_context(contextlib.redirect_stdout(printed))
        try:
            if words[0] == CONFIG:
                planned(dict(word.split("=", 1) for word in words[1:]))
            elif words[0] == "mlm":
                mlm([*words[1:]])
            else:
                analysis(lambda: app([*words[1:]]))
        except SystemExit as ended:
            code = ended.code
    return Told(int(code or 0), said.getvalue(), printed.getvalue())


def planned(settings: Mapping[str, Any]) -> None:
    """The plan that the Snakefile makes; it would end this process, and ends as a command does."""

    def leave(code: int) -> None:
        raise SystemExit(code)

    ended, os._exit = os._exit, leave  # type: ignore[assignment]
    try:
        pipeline.Plan(settings)
    finally:
        os._exit = ended
