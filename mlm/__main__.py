"""The commands a person types: python -m mlm --help."""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

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

RunName = Annotated[str, typer.Argument(metavar="RUN", help="Folder, digest, or label of a run.")]
ScaleName = Annotated[str, typer.Option(help="Scale file under experiments/scales.")]


@app.command(rich_help_panel="Data")
def corpus(
    name: Annotated[str, typer.Argument(help="A file under experiments/corpora, without .yaml.")],
    folder: Annotated[Path, typer.Argument(help="Where to write the prepared corpus.")],
) -> None:
    """Fetch, verify, clean and split a corpus."""
    from mlm import corpus
    from mlm.layout import EXPERIMENTS

    (folder / "corpus.json").unlink(missing_ok=True)  # asked for by name: made anew
    corpus.prepare(EXPERIMENTS / "corpora" / f"{name}.yaml", folder)


@app.command(rich_help_panel="Data")
def vocabulary(
    prepared: Annotated[Path, typer.Argument(metavar="CORPUS", help="Folder of a prepared corpus.")],
    model: Annotated[Path, typer.Argument(help="Model file to write.")],
    kind: Annotated[str, typer.Option(help="unigram, bpe or char.")] = "unigram",
    size: Annotated[int, typer.Option(help="Pieces, the five special tokens included.")] = 2048,
    tokenizer: Annotated[
        str | None, typer.Option(help="Folder of a Hugging Face tokenizer to take in their place.")
    ] = None,
) -> None:
    """Train a SentencePiece vocabulary on the training split."""
    from mlm import config, hugging_face_tokenizer, vocabulary, yaml_file

    if tokenizer:
        hugging_face_tokenizer.prepare(tokenizer, model)
        return
    wanted = yaml_file.validated(config.Vocabulary, {"kind": kind, "size": size}, "vocabulary")
    vocabulary.prepare(wanted, prepared, model, "scale, base or arm")


@app.command(rich_help_panel="Data")
def shards(
    prepared: Annotated[Path, typer.Argument(metavar="CORPUS", help="Folder of a prepared corpus.")],
    model: Annotated[Path, typer.Argument(help="Vocabulary model.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write the token files to.")],
    cores: Annotated[int, typer.Option(min=1, help="Processes; the bytes do not depend on it.")] = 1,
) -> None:
    """Encode a corpus into memory-mapped token files."""
    from mlm import shards

    (folder / "shards.json").unlink(missing_ok=True)
    shards.write(prepared, model, folder, cores)


@app.command(rich_help_panel="Data")
def sentences(
    path: Annotated[Path, typer.Argument(help="File of sentences to write.")],
    train_sentences: Annotated[int, typer.Option(min=50, help="Sentences the probe is trained on.")] = 4000,
    test_sentences: Annotated[int, typer.Option(min=50, help="Held-out sentences.")] = 1500,
) -> None:
    """Fetch and parse the Brown corpus for the part-of-speech probe."""
    from mlm import brown
    from mlm.experiment import Probe

    brown.prepare(Probe(train_sentences=train_sentences, test_sentences=test_sentences), path)


@app.command(rich_help_panel="Data")
def task(
    name: Annotated[str, typer.Argument(help="A sentence task under experiments/probes, without .yaml.")],
    path: Annotated[Path, typer.Argument(help="File of sentences to write.")],
) -> None:
    """Fetch, clean and divide the sentences of a task."""
    from mlm import tasks

    tasks.prepare(name, path)


@app.command(rich_help_panel="Data")
def grammar(
    prepared: Annotated[Path, typer.Argument(metavar="CORPUS", help="Folder of a prepared corpus.")],
    path: Annotated[Path, typer.Argument(help="File of minimal pairs to write, in BLiMP's format.")],
    per_kind: Annotated[int, typer.Option(min=1, help="Pairs of each kind, at least.")] = 200,
    file: Annotated[
        Path | None, typer.Option(help="BLiMP's .jsonl file, or a folder of them, in the grammar's place.")
    ] = None,
    vocabulary: Annotated[
        Path | None, typer.Option(help="Vocabulary model; refuses words that it cannot spell.")
    ] = None,
) -> None:
    """Write minimal pairs of a small grammar, in words that are frequent in the training text."""
    from mlm import grammar

    found = grammar.read(file) if file else grammar.of_corpus(prepared, per_kind)
    if vocabulary:
        from mlm import pairs
        from mlm.vocabulary import Tokenizer

        pairs.check(Tokenizer.read(vocabulary), found)
    grammar.write(found, path)


@app.command(rich_help_panel="Runs")
def train(
    name: Annotated[str, typer.Argument(metavar="RUN|EXPERIMENT", help="A planned run, or an experiment.")],
    arm: Annotated[str, typer.Option(help="Of an experiment: the arm; the baseline unless told.")] = "",
    seed: Annotated[int | None, typer.Option(help="Of an experiment: the seed; 0 unless told.")] = None,
    scale: Annotated[str | None, typer.Option(help="Of an experiment: the scale; laptop unless told.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key, e.g. masking.rate=.3.")
    ] = None,
    checkpoint_seconds: Annotated[float, typer.Option(help="Time between checkpoints.")] = 60.0,
    log: Annotated[
        Path | None, typer.Option(help="Write progress to this file, one closing line here.")
    ] = None,
) -> None:
    """Train one run to the end of its budget, or go on where it was stopped.

    [bold]python -m mlm train split --arm 100-0-0 --seed 3 --set masking.rate=.3[/bold] plans a run of
    its own, prepares the data it needs and trains it.
    """
    from mlm import runs, single
    from mlm.planner import available

    if name in available():
        folder = single.plan(name, arm, seed or 0, scale or "laptop", set_ or [])
    elif arm or set_ or scale is not None or seed is not None:
        known = ", ".join(available())
        raise InputError(
            f"--arm, --seed, --scale and --set go with an experiment, not a run; there are: {known}"
        )
    else:
        folder = runs.find(name).path
    code = single.train(runs.RunFolder.open(folder), checkpoint_seconds, log)
    if code:
        raise typer.Exit(code)


Untrained = Annotated[bool, typer.Option(help="RUN is the digest of an encoder before its first step.")]
Output = Annotated[Path | None, typer.Option(help="File to write; else shown only.")]
At = Annotated[int | None, typer.Option(min=1, help="The weights kept after so many steps (`checkpoints_at`).")]


@app.command(rich_help_panel="Measures")
def evaluate(
    name: RunName,
    output: Output = None,
    sequences: Annotated[int, typer.Option(min=1, help="Windows of each held-out split.")] = 1024,
    at: At = None,
) -> None:
    """Held-out loss and accuracy on frozen masks: yardstick and own corruption, validation and test."""
    _measure(name, "evaluation", sequences, output, at)


@app.command(rich_help_panel="Measures")
def probe(
    name: RunName,
    sentences: Annotated[Path, typer.Argument(help="File written by `sentences`.")],
    output: Output = None,
    untrained: Untrained = False,
    at: At = None,
) -> None:
    """Part of speech from frozen features, with lookup baselines beside it."""
    _measure(name, "probe", sentences, output, at, untrained)


@app.command(rich_help_panel="Measures")
def pairs(
    name: RunName,
    file: Annotated[Path, typer.Argument(help="Written by `grammar`; or a BLiMP .jsonl, or a folder of them.")],
    output: Output = None,
    untrained: Untrained = False,
    at: At = None,
) -> None:
    """Minimal pairs: how often the good sentence has the higher pseudo-log-likelihood (word-l2r)."""
    _measure(name, "pairs", file, output, at, untrained)


def _measure(
    name: str, measure: str, setting: Any, output: Path | None, at: int | None, untrained: bool = False
) -> None:
    from mlm import measuring

    measuring.measure(
        _run(name, untrained, at), [measuring.Wanted(measure, setting, output)], not untrained, at
    )


def _run(name: str, untrained: bool, at: int | None) -> Any:
    from mlm import runs

    if untrained and at is not None:
        raise InputError("--at and --untrained: an encoder before its first step keeps no weights; give one")
    return runs.of_untrained(name) if untrained else runs.find(name)


@app.command(rich_help_panel="Measures")
def measure(
    name: RunName,
    take: Annotated[
        list[str] | None, typer.Option("--take", metavar="NAME=FILE", help="A measure, and the file to write.")
    ] = None,
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with", metavar="NAME=YAML", help="What it reads: a file, a number, or several by name."
        ),
    ] = None,
    over_training: Annotated[
        list[str] | None,
        typer.Option("--over-training", metavar="NAME", help="Take it of the weights kept on the way, too."),
    ] = None,
    untrained: Untrained = False,
    at: At = None,
) -> None:
    """Several measures of a run with its weights loaded once; what the pipeline calls.

    [bold]--take probe=FILE --with probe=SENTENCES --take evaluation=FILE --with evaluation=1024[/bold];
    also pairs=PAIRS, tasks.trec=SENTENCES, finetune.trec={data: SENTENCES, restarts: 5}, reach=[4.5] (nats)
    and plugins.mine=my_lab.probes:depth.
    """
    from mlm import measuring

    asked = measuring.wanted(take or [], with_ or [], over_training or [])
    measuring.measure(_run(name, untrained, at), asked, not untrained, at)


@app.command(rich_help_panel="Look")
def fill(
    text: Annotated[
        str, typer.Argument(help='Text with [MASK] in it: "Shall I compare thee to a [MASK] day?"')
    ],
    run: Annotated[
        str, typer.Option(help="The run to ask; the baseline's first finished run unless told.")
    ] = "",
    candidates: Annotated[int, typer.Option(min=1, max=100, help="Answers a mask.")] = 5,
) -> None:
    """Let a trained run fill in what is masked."""
    from mlm import look

    look.fill(text, run, candidates)


@app.command(rich_help_panel="Look")
def mask(
    text: Annotated[str, typer.Argument(help="Text to corrupt; a held-out passage unless given.")] = "",
    run: Annotated[str, typer.Option(help="The run whose vocabulary and masking to use.")] = "",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="e.g. rate=.4 or split={mask: 1}.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the masks.")] = 0,
) -> None:
    """Show a corrupted sample in colour, and what was realised."""
    from mlm import look

    look.mask(text, run, set_ or [], seed)


@app.command(rich_help_panel="Look")
def runs(
    select: Annotated[str, typer.Argument(help="Part of a label, such as split/100-0-0.")] = "",
) -> None:
    """List the runs there are, with their digests and results."""
    from mlm import look

    look.runs(select)


@app.command(rich_help_panel="Look")
def status(
    scale: ScaleName = "laptop",
    watch: Annotated[float, typer.Option(min=0, help="Seconds between looks; 0 looks once.")] = 0,
) -> None:
    """A table of a study's runs: progress, tokens a second, time left."""
    from rich.console import Console
    from rich.live import Live

    from mlm import status

    if not watch:
        Console().print(status.table(status.study(scale)))
        return
    with (
        Live(status.table(status.study(scale)), refresh_per_second=1) as live,
        contextlib.suppress(KeyboardInterrupt),
    ):
        while True:
            time.sleep(watch)
            live.update(status.table(status.study(scale)))


@app.command(rich_help_panel="Look")
def doctor() -> None:
    """What this machine can do, and what is missing."""
    from rich.console import Console

    from mlm import doctor

    table, able = doctor.examine()
    Console().print(table)
    raise typer.Exit(0 if able else 1)


@app.command(hidden=True)
def track(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    trainer: Annotated[int, typer.Option(help="Process id of the training that is followed.")],
) -> None:
    """Bring the Weights & Biases run of a run to what its files say; `train` starts this beside it."""
    from mlm import tracking, wandb_writer
    from mlm.runs import RunFolder

    try:
        wandb_writer.track(RunFolder.open(path), trainer)
    except Exception as error:  # W&B's own are many, and its caller warns whatever it was
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        tracking.leave(1)


@app.command(rich_help_panel="Runs")
def sync(
    experiment: Annotated[str | None, typer.Option(help="Only this experiment.")] = None,
    scale: Annotated[str | None, typer.Option(help="Only this scale.")] = None,
    as_configured: Annotated[
        Path | None, typer.Option(hidden=True, help="In the mode that is set; told in this file; never fails.")
    ] = None,
) -> None:
    """Upload to Weights & Biases what is not yet there: runs, measures, tables, figures, lineage.

    Needs a key ([bold]wandb login[/bold], or WANDB_API_KEY); WANDB_ENTITY, WANDB_PROJECT and
    WANDB_BASE_URL say where to. It can be repeated, and goes on after an interruption.
    """
    from mlm import sync, tracking

    if as_configured is not None:
        typer.echo(sync.as_configured(scale or "laptop", experiment or "", as_configured))
        tracking.leave(0)
    try:
        uploaded, before = sync.upload(scale, experiment)
    except sync.Failed as error:
        print(f"not uploaded: {error}", file=sys.stderr)
        tracking.leave(1)
    typer.echo(f"{uploaded} W&B runs uploaded, {before} were up to date")


@app.command(rich_help_panel="Runs")
def export(
    name: RunName,
    folder: Annotated[Path, typer.Argument(help="New folder for the Hugging Face model and tokenizer.")],
) -> None:
    """Write a run of the `bert` preset as a Hugging Face BertForMaskedLM with its tokenizer."""
    from mlm import bert_state, export, runs

    run = runs.find(name)
    bert_state.check_exportable(run.config.encoder)
    typer.echo(export.export(run.encoder(), run.tokenizer(), run.config.vocabulary.kind, folder))


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
