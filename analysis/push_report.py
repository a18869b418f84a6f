"""The report of an experiment for Weights & Biases: python -m analysis.push_report EXPERIMENT.

The same content as one page, offline: python -m analysis report SCALE EXPERIMENT.
"""

import argparse
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis import report_content, study
from analysis.__main__ import main as told
from mlm import tracking
from mlm.errors import InputError
from mlm.files import write_atomically

PATIENCE_SECONDS = 10.0
"""How long the server may take to answer at all; the client itself would go on trying."""


def push(content: report_content.Content, entity: str, project: str, repository: str | None) -> str:
    """Save the report on the server, in place of an earlier one of the same experiment and scale.

    Args:
        entity: user or team; empty takes the key's own.

    Returns:
        The report's address.

    Raises:
        InputError: no key, no entity, or a server that cannot be reached or refuses.
    """
    import wandb

    server = wandb.setup().settings.base_url
    try:
        _reach(server)
        api = wandb.Api()
        owner = entity or api.default_entity
        if not owner:
            raise InputError("--entity: none given, and the key has no default; name a user or a team")
        from analysis import report_wandb

        report = report_wandb.build(content, owner, project, repository)
        report.id = _earlier(api, owner, project, report_wandb.head(content.experiment, content.scale))
        report.save()
        return _address(report)
    except InputError:
        raise
    except wandb.errors.UsageError as error:
        raise InputError(
            f"Weights & Biases: {_harmless(error)} Or set WANDB_API_KEY; --dry-run needs no key"
        ) from None
    except Exception as error:  # the client raises what its parts raise
        raise InputError(
            f"Weights & Biases at {server}: {_harmless(error)}; "
            "check WANDB_API_KEY, --entity and --project, or look at the report with --dry-run"
        ) from None


def _reach(server: str) -> None:
    try:
        urllib.request.urlopen(server, timeout=PATIENCE_SECONDS).close()  # noqa: S310 - the user's own setting
    except urllib.error.HTTPError:
        pass  # it answers
    except (OSError, ValueError) as error:
        why = _harmless(getattr(error, "reason", error))
        raise InputError(
            f"Weights & Biases at {server}: cannot be reached ({why}); check the network and WANDB_BASE_URL, "
            "or look at the report with --dry-run"
        ) from None


def _earlier(api: Any, entity: str, project: str, beginning: str) -> str:
    """Id of the report to replace; empty where there is none, or no such project yet."""
    try:
        found = [
            r.id for r in api.reports(f"{entity}/{project}") if (r.display_name or "").startswith(beginning)
        ]
    except ValueError:
        return ""
    return found[0] if found else ""


def _address(report: Any) -> str:
    """The library's own breaks at a question mark in the title."""
    words = re.sub(r"\W+", "-", report.title).strip("-")
    return f"{report.url.partition('/reports/')[0]}/reports/{words}--{report.id.rstrip('=')}"


def _harmless(error: object) -> str:
    """What went wrong, on one line and without the key, whatever the client puts into its messages."""
    text = " ".join(str(error).split()) or type(error).__name__
    key = os.environ.get("WANDB_API_KEY")
    return text.replace(key, "(key)") if key else text


def run(arguments: Sequence[str] | None = None) -> None:
    """Build the report that the command line asks for; push it, or write its JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.push_report", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("experiment", help="name of the experiment, as its file is called")
    parser.add_argument("--scale", default="laptop", help="a folder under results/ (default: %(default)s)")
    parser.add_argument("--entity", help="user or team that owns the project; unless told, where runs go")
    parser.add_argument("--project", help="unless told, where runs go")
    parser.add_argument("--repository", metavar="URL", help="where this repository is to be read, for links")
    parser.add_argument(
        "--dry-run",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the report's JSON instead: to FILE, or print it",
    )
    options = parser.parse_args(arguments)
    content = report_content.build(study.load(options.scale), options.experiment)
    usual = tracking.environment(options.scale, os.environ)
    entity = options.entity or usual.get("WANDB_ENTITY") or ""
    project = options.project or usual["WANDB_PROJECT"]
    if options.dry_run is None:
        # W&B's folders lie where the runs' do; silent, its client asks for no key at the terminal.
        tracking.enter(options.scale, {**os.environ, "WANDB_MODE": "online", "WANDB_SILENT": "true"})
        print(push(content, entity, project, options.repository))
        return
    from analysis import report_wandb

    text = report_wandb.as_json(report_wandb.build(content, entity, project, options.repository))
    if options.dry_run == "-":
        sys.stdout.write(text)
    else:
        write_atomically(Path(options.dry_run), text)
        print(options.dry_run)


if __name__ == "__main__":
    told(run)
