"""Commands that prepare data: corpora, vocabularies, shards, and what measures read."""

from pathlib import Path
from typing import Annotated

import typer

from mlm.written import ending

app = typer.Typer()
PANEL = "Data"


@app.command(rich_help_panel=PANEL)
def corpus(
    name: Annotated[str, typer.Argument(help="A file under experiments/corpora, without .yaml.")],
    folder: Annotated[Path, typer.Argument(help="Where to write the prepared corpus.")],
) -> None:
    """Fetch, verify, clean and split a corpus."""
    from mlm import checks, corpus
    from mlm.layout import EXPERIMENTS

    path = EXPERIMENTS / "corpora" / f"{name}.yaml"
    checks.divided(path)
    corpus.prepare(path, folder, anew=True)  # asked for by name


@app.command(rich_help_panel=PANEL)
def vocabulary(
    prepared: Annotated[Path, typer.Argument(metavar="CORPUS", help="Folder of a prepared corpus.")],
    model: Annotated[Path, typer.Argument(help="Model file to write.", callback=ending(".model"))],
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


@app.command(rich_help_panel=PANEL)
def shards(
    prepared: Annotated[Path, typer.Argument(metavar="CORPUS", help="Folder of a prepared corpus.")],
    model: Annotated[Path, typer.Argument(help="Vocabulary model.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write the token files to.")],
    cores: Annotated[int, typer.Option(min=1, help="Processes; the bytes do not depend on it.")] = 1,
) -> None:
    """Encode a corpus into memory-mapped token files."""
    from mlm import shards

    shards.write(prepared, model, folder, cores, anew=True)


@app.command(rich_help_panel=PANEL)
def sentences(
    path: Annotated[Path, typer.Argument(help="File of sentences to write.", callback=ending(".jsonl"))],
    train_sentences: Annotated[int, typer.Option(min=50, help="Sentences the probe is trained on.")] = 4000,
    test_sentences: Annotated[int, typer.Option(min=50, help="Held-out sentences.")] = 1500,
) -> None:
    """Fetch and parse the Brown corpus for the part-of-speech probe."""
    from mlm import brown
    from mlm.experiment import Probe

    brown.prepare(Probe(train_sentences=train_sentences, test_sentences=test_sentences), path)


@app.command(rich_help_panel=PANEL)
def task(
    name: Annotated[str, typer.Argument(help="A sentence task under experiments/probes, without .yaml.")],
    path: Annotated[Path, typer.Argument(help="File of sentences to write.", callback=ending(".jsonl"))],
) -> None:
    """Fetch, clean and divide the sentences of a task."""
    from mlm import tasks

    tasks.prepare(name, path)


@app.command(rich_help_panel=PANEL)
def grammar(
    prepared: Annotated[Path, typer.Argument(metavar="CORPUS", help="Folder of a prepared corpus.")],
    path: Annotated[
        Path,
        typer.Argument(help="File of minimal pairs to write, in BLiMP's format.", callback=ending(".jsonl")),
    ],
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
