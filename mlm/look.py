"""Commands that only look: fill, mask, runs."""

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlm import colour, config, layout, projection, schedules, shards, single, status, yaml_file
from mlm import runs as run_folders
from mlm.errors import InputError
from mlm.files import read_json
from mlm.runs import RunFolder

TRAINS = "`snakemake --cores all` trains them, `python -m mlm train` one"


def _finished(name: str) -> RunFolder:
    """The named run, or the first finished one of a baseline, or the first finished one."""
    if name:
        return run_folders.find(name)
    found = [run for run in run_folders.everything() if _ended(run) == "finished"]
    if not found:
        raise InputError(f"no run has finished yet; {TRAINS}")
    return next((run for run in found if _is_baseline(run)), found[0])


def _is_baseline(run: RunFolder) -> bool:
    return any(
        projection.experiments(scale).get(experiment, {}).get("baseline") == arm
        for scale, experiment, arm, _ in run.labels
        if layout.study_file(scale).exists()
    )


def _ended(run: RunFolder) -> str | None:
    """How a run has ended: finished or diverged; None of one that has not."""
    path = run.path / "run.json"
    return str(run_folders.read_outcome(path)["status"]) if path.exists() else None


def _readable(text: str) -> None:
    """Refuse what the shell handed over and is no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"text: {text!r} is not in UTF-8; write it in a terminal that is, or correct it"
        ) from None


def fill(text: str, name: str, candidates: int) -> None:
    """Show what a run would write at each [MASK]."""
    _readable(text)
    if "[MASK]" not in text:
        raise InputError(f"text: {text!r} has no [MASK]; write one where the model is to fill in")
    run = _finished(name)
    if _ended(run) == "diverged":
        step = run.outcome()["diverged"]["step"]
        raise InputError(f"{run.name}: diverged at step {step}, so it answers nothing; name another with --run")
    tokenizer = run.tokenizer()
    from mlm import fill

    ids = fill.encode_prompt(tokenizer, text)
    if len(ids) > run.config.encoder.max_positions:
        raise InputError(f"text: {len(ids)} tokens; this run reads {run.config.encoder.max_positions} at most")
    fills = fill.fill(run.encoder(), ids, {}, min(candidates, tokenizer.size - config.N_SPECIAL))
    console = Console(highlight=False)
    chosen = {f.position: f.candidates[0][0] for f in fills}
    line = Text()
    for position, token in enumerate(ids):
        piece = tokenizer.pieces[chosen.get(position, token)].replace("▁", " ")
        line.append(piece, colour.RIGHT if position in chosen else colour.CONTEXT)
    console.print(line)
    for found in fills:
        answers = "  ".join(
            f"{tokenizer.pieces[t].replace('▁', ' ')!r} {100 * p:.1f} %" for t, p in found.candidates
        )
        console.print(f"  position {found.position}: {answers}")
    console.print(f"[dim]{run.name} ({run.path.name})[/]")


def mask(text: str, name: str, changes: list[str], seed: int) -> None:
    """Show one corrupted sequence in colour, and what was realised over many of them."""
    _readable(text)
    run = _finished(name)
    merged = yaml_file.merge(run.config.masking.model_dump(), single.overrides(changes))
    masking = schedules.masking(yaml_file.validated(config.Masking, merged, "--set"), 0.0)
    tokenizer = run.tokenizer()
    import torch

    from mlm.batches import windows
    from mlm.masking import strategy
    from mlm.randomness import Purpose, generator, uniform

    held_out = shards.read(run.shards, run.vocabulary)["validation"].tokens
    many = windows(held_out, run.config.sequence_length, 4096)
    ids = tokenizer.encode(text)
    if text and not ids:
        raise InputError(f"text: {text!r} has no tokens; write a few words")
    shown = torch.tensor([ids]) if text else many[:1]
    styles = {0: "dim", 1: "bold blue", 2: "bold green", 3: "bold red"}
    corrupt = strategy(masking)
    stated: Any = {"n_tokens": tokenizer.size, "begins_word": torch.tensor(tokenizer.begins_word), "step": 0}
    one = corrupt(shown, masking, uniform(generator(seed, Purpose.PROMPTS)), **stated)
    line = Text()
    for original, written, kind in zip(
        shown[0].tolist(), one.inputs[0].tolist(), one.kind[0].tolist(), strict=True
    ):
        piece = tokenizer.pieces[written].replace("▁", " ")
        line.append(f" {piece}" if written == config.MASK else piece, styles[kind])
        if kind in (1, 3):
            line.append(f"({tokenizer.pieces[original].replace('▁', ' ').strip()})", "dim italic")
    console = Console(highlight=False)
    console.print(line)
    console.print(
        Text.assemble(
            ("masked ", styles[1]), ("same ", styles[2]), ("random ", styles[3]), ("(original)", "dim italic")
        )
    )
    every = corrupt(many, masking, uniform(generator(seed, Purpose.PROMPTS, 1)), **stated)
    table = Table("", "asked for", "realised", title=f"{many.numel():,} held-out tokens", title_justify="left")
    eligible = int((many >= config.N_SPECIAL).sum())
    selected = int(every.selected.sum())
    table.add_row("rate", f"{masking.rate:.4f}", f"{selected / eligible:.4f}")
    for number, kind_name in enumerate(("mask", "same", "random"), start=1):
        share = int((every.kind == number).sum()) / max(selected, 1)
        table.add_row(kind_name, f"{getattr(masking.split, kind_name):.4f}", f"{share:.4f}")
    console.print(table)


def runs(select: str) -> None:
    """A table of the runs whose label contains `select`."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("label", overflow="fold")  # alone: a number or a digest that is cut says nothing
    for heading in ("digest", "state"):
        table.add_column(heading, no_wrap=True)
    for heading in ("M tok", "nats", "probe"):
        table.add_column(heading, justify="right", no_wrap=True)
    for run in run_folders.everything():
        labels = [layout.run_name(*label) for label in run.labels] or ["by hand"]
        if select and not any(select in label for label in labels):
            continue
        seen = status.of_folder(run.path, run.name)
        values = _measured(run)
        loss = values.get("validation.yardstick.loss_nats", seen.loss_nats)
        accuracy = values.get("probe.accuracy")
        table.add_row(
            "\n".join(labels),
            run.path.name,
            f"[{status.STYLES[seen.state]}]{seen.state}[/]",
            f"{seen.tokens / 1e6:.2f}",
            f"{loss:.3f}" if loss is not None else "",
            f"{accuracy:.3f}" if accuracy is not None else "",
        )
    if table.rows:
        Console(highlight=False).print(table)
    elif select:
        print(f"no run has {select!r} in its label; `python -m mlm runs` lists all")
    else:
        print(f"no runs yet; {TRAINS}")


def _measured(run: RunFolder) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for path in projection.measures(run):
        values |= read_json(path, "delete it and run the pipeline again")["values"]
    return values
