"""The commands a person types: python -m mlm --help."""

import contextlib
import signal
import sys
from collections.abc import Iterator

import typer

from mlm import commands_data, commands_look, commands_measures, commands_runs, commands_studies
from mlm.errors import InputError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Masked language models as an experiment. `snakemake --cores all` runs a whole study with "
    "these commands; by hand they train, measure and look at single runs.",
    epilog="A RUN is a folder under results/runs, its digest or the beginning of it, or a label such as "
    "split/80-10-10/seed-0 (laptop/split/80-10-10/seed-0 where scales share it).",
)

for part in (commands_data, commands_runs, commands_measures, commands_look, commands_studies):
    app.add_typer(part.app)


def main(arguments: list[str] | None = None) -> None:
    """Run a command; bad input is told without a traceback and exits with status 2."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a closed pipe (`… | head`) is no error of ours
    with refusing():
        app(arguments)


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Print bad input as what it is and exit with status 2."""
    try:
        yield
    except InputError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        if error.filename is None:
            raise  # not about a file
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
