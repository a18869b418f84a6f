"""The commands a person types: python -m mlm --help."""

import typer

from mlm import (
    commands_data,
    commands_look,
    commands_measures,
    commands_plan,
    commands_runs,
    commands_studies,
    logs,
)
from mlm.refusal import heard, refusing

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

for part in (commands_plan, commands_data, commands_runs, commands_measures, commands_look, commands_studies):
    app.add_typer(part.app)


def main(arguments: list[str] | None = None) -> None:
    """Run a command; what a person can put right is told without a traceback."""
    with logs.kept(), refusing(), heard():
        app(arguments)


if __name__ == "__main__":
    main()
