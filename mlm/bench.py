"""python -m mlm bench: the same shapes trained by this package and its peers, in turns, on one core.

A contestant has a process of its own (mlm.bench_process) and trains for a few seconds at a time, one after
another, several rounds: what else the machine does meets all of them. A second is one of the process's CPU
time, which on a quiet machine is one of the clock (on CUDA it is one of the clock). A ratio is the median over
rounds of our tokens a second by the peer's in the same round.
"""

import functools
import importlib.metadata
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from mlm import (
    bench_parts,
    bench_quality,
    bench_table,
    config,
    devices,
    files,
    flops,
    log_head,
    machine,
    planner,
)
from mlm.bench_peers import OURS, PEERS
from mlm.bench_process import Child, Failed, core, result
from mlm.bench_shapes import FOLDER, SHAPES, Shape, Study, chosen, plan
from mlm.errors import InputError
from mlm.runs import RunFolder

QUALITY_SEEDS = 3
STARTS = 3
QUIET = 0.9  # share of a turn's wall time that a contestant has the core on a quiet machine
PATIENCE = 10  # times the seconds of a turn that one may take; who takes longer has no other
PEER_PACKAGES = ("transformers", "accelerate", "labml-nn", "tokenizers")

MASKS = {"mlm": OURS, "hf-collator": "hf-trainer", "hf-collator, tensors": "hf-bf16", "labml-nn": "labml-nn"}
"""Way of masking -> who trains with it."""


class Effort(NamedTuple):
    """How long is measured."""

    rounds: int = 5
    turn_seconds: float = 3.0
    part_seconds: float = 0.5
    """Of each of the parts' ways."""


def _warn(console: Console, line: str) -> None:
    console.print(line, style="yellow", markup=False)


def throughput(run: Path, logs: Path, effort: Effort, console: Console) -> dict[str, dict[str, Any]]:
    """Tokens a second of every contestant that is there, a figure a round.

    Whose step is much longer than a turn, as in bfloat16 where a machine only imitates it, has one round.
    """
    told: dict[str, dict[str, Any]] = {}
    slow: set[str] = set()
    children: dict[str, Child] = {}
    try:
        for name in PEERS:
            if PEERS[name].missing:
                _warn(console, bench_quality.absent(name))
                continue
            target = "mlm.bench_process:train"
            children[name] = Child(target, logs / f"{name}.log", run=str(run), contestant=name)
            try:
                ready = children[name].hear()  # one starts after another
                for line in children[name].warnings():
                    _warn(console, f"{name}: {line}")
                told[name] = {**ready, "rounds": [], "cpu_share": [], "memory_bytes": 0}
            except Failed as error:
                _warn(console, f"{name}: left out; {error}")
        for number in range(effort.rounds):
            names = [name for name in told if name not in slow]
            first = number % len(names) if names else 0
            for name in (*names[first:], *names[:first]):  # nobody is always behind the same other
                try:
                    turn = children[name].ask(seconds=effort.turn_seconds)
                except Failed as error:
                    _warn(console, f"{name}: left out; {error}")
                    del told[name]
                    continue
                mine = told[name]
                mine["rounds"].append(turn["tokens"] / turn["seconds"])
                mine["cpu_share"].append(turn["cpu_share"])
                mine["memory_bytes"] = turn["memory_bytes"]
                if turn["seconds"] > PATIENCE * effort.turn_seconds:
                    slow.add(name)
                    _warn(console, f"{name}: a turn took {turn['seconds']:.0f} s: it has no other")
            found = {name: told[name]["rounds"][-1] for name in names if name in told}
            speeds = ", ".join(f"{name} {speed / 1e3:.1f} k" for name, speed in found.items())
            console.print(f"  round {number + 1} of {effort.rounds}: {speeds} tokens/s")
    finally:
        for child in children.values():
            child.__exit__()
    if any(min(one["cpu_share"]) < QUIET for one in told.values()):
        _warn(console, "other work took time from this core: the figures are noisier for it")
    for one in told.values():
        one["tokens_per_second"] = statistics.median(one["rounds"])
        one["cpu_share"] = statistics.median(one["cpu_share"])
    return told


def ratios(told: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Peer -> median, lowest and highest over the rounds that both had of our tokens a second by the peer's.

    >>> ratios({"mlm": {"rounds": [4.0, 6.0, 9.0]}, "peer": {"rounds": [2.0, 2.0, 3.0]}})
    {'peer': {'median': 3.0, 'low': 2.0, 'high': 3.0}}
    """
    found = {}
    for name, one in told.items():
        if name != OURS and OURS in told:
            each = [a / b for a, b in zip(told[OURS]["rounds"], one["rounds"], strict=False)]
            found[name] = {"median": statistics.median(each), "low": min(each), "high": max(each)}
    return found


def measure(name: str, shape: Shape, study: Study, effort: Effort, console: Console) -> dict[str, Any]:
    """Everything that is measured of a shape."""
    console.print(f"[bold]{name}[/]: preparing text and vocabulary")
    run = plan(shape, study)
    logs = FOLDER / "logs" / name
    opened = RunFolder.open(run)
    said: dict[str, Any] = {"shape": shape._asdict(), "dropout": opened.config.encoder.dropout}
    told = throughput(run, logs, effort, console)
    said["throughput"], said["spread"] = told, ratios(told)
    parts: dict[str, tuple[str, dict[str, Any]]] = {
        "matmul": ("matmul", {"seconds": effort.part_seconds / 4}),
        "masking": ("masking", {"seconds": effort.part_seconds}),
        "encoding": ("encoding", {"rounds": 3, "everything": False}),
        "encoding_all_cores": ("encoding", {"rounds": 3, "everything": True}),
        **{f"start_{number}": ("start", {}) for number in range(1, STARTS + 1)},
    }
    for part, (function, options) in parts.items():
        console.print(f"  measuring {part.replace('_', ' ')}")
        pinned = part != "encoding_all_cores"
        try:
            target = f"mlm.bench_parts:{function}"
            said[part] = result(target, logs / f"{part}.log", pinned=pinned, run=str(run), **options)
        except Failed as error:
            _warn(console, f"{part}: left out; {error}")
    if starts := [said.pop(part) for part in parts if parts[part][0] == "start" and part in said]:
        said["start"] = {key: statistics.median(one[key] for one in starts) for key in starts[0]}
    said["masking_share"] = {
        way: told[name]["tokens_per_second"] / said["masking"][way]
        for way, name in MASKS.items()
        if name in told and way in said.get("masking", {})
    }
    if "matmul" in said:
        peak = max(kind["flops_per_second"] for kind in said["matmul"].values())
        n_tokens = opened.tokenizer().size
        each = flops.of_token(opened.config.encoder, n_tokens, shape.length)
        executed = sum(one.operations * one.times for one in bench_parts.products(opened.config, n_tokens))
        said["flops_per_token"] = each
        said["executed_flops_per_token"] = executed / opened.config.tokens_per_step
        for who, one in told.items():
            one["utilisation"] = each * one["tokens_per_second"] / peak
            done = said["executed_flops_per_token"] if who == OURS else each  # peers compute every position
            one["executed_utilisation"] = done * one["tokens_per_second"] / peak
    return said


def taken_on(numerics: config.Numerics) -> dict[str, Any]:
    """What the figures were taken on, and with which code.

    Args:
        numerics: ours.
    """
    versions: dict[str, str | None] = {**log_head.versions()}
    for name in PEER_PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    flags = devices.cpu_flags()
    shown = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16")
    return {
        "processor": platform.processor() or platform.machine(),
        "flags": [flag for flag in shown if flag in flags],
        "cores": machine.cores(),
        "core": core(),
        "threads": 1,
        "numerics": numerics.model_dump(),
        "versions": versions,
        "code": log_head.code(),
    }


def known(path: Path) -> dict[str, Any]:
    """What an earlier benchmark wrote.

    Raises:
        InputError: it is something else.
    """
    remedy = "name another file"
    content = files.read_json(path, remedy)
    parts = [content.get(part) for part in ("ratios", "shapes")] if isinstance(content, dict) else [None]
    if not all(isinstance(part, dict) for part in parts):
        raise InputError(f"{path}: not what a benchmark writes; {remedy}")
    return dict(content)


def _write(path: Path, content: dict[str, Any]) -> None:
    try:
        files.write_json(path, content)
    except OSError as error:
        remedy = "name another file, or let this user write there"
        raise InputError(f"--json {path}: cannot be written ({error.strerror}); {remedy}") from None


def run(
    names: Sequence[str], effort: Effort, path: Path | None, quality: bool, study: Study | None = None
) -> None:
    """The command: measure, and show and write what was found of each shape as soon as it is.

    Args:
        path: JSON file to write, before anything is measured too; one that is there keeps the shapes that are
            not measured now.
        quality: measure time to quality in the place of the shapes.
    """
    study, console = study or Study(), Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, bench_table.WIDTH)
    shapes = {} if quality and not names else chosen(names, console.print)
    content: dict[str, Any] = {"ratios": {}, "shapes": {}}
    if path:
        content |= known(path) if path.exists() else {}
        _write(path, content)
    planned = planner.load_study(study.scale, [study.experiment])
    console.print(devices.told(planned.numerics, planned.scale.compile))
    here = taken_on(planned.numerics)
    for name, shape in shapes.items():
        said = {"machine": here, **measure(name, shape, study, effort, console)}
        content["shapes"][name] = said
        content["ratios"][name] = {peer: one["median"] for peer, one in said["spread"].items()}
        bench_table.show(name, said, console)
        if path:
            _write(path, content)
    if quality:
        say = functools.partial(console.print, markup=False)
        runs = [plan(SHAPES["tiny"], study, seed) for seed in range(QUALITY_SEEDS)]
        for found in bench_quality.measure(runs, FOLDER / "logs", say):
            content["quality_so_far"] = {"machine": here} | found  # beside an earlier one that is whole
            if path:
                _write(path, content)
        content["quality"] = content.pop("quality_so_far")
        if path:
            _write(path, content)
        console.print(bench_table.quality(content["quality"]))
