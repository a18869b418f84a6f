"""What a person sees of a benchmark: tables on the terminal, from the content of its JSON file."""

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from mlm.bench_peers import OURS, PEERS

UTILISATION = ("utilisation", "executed_utilisation")
"""By what the machine's products reach: the plain model's operations, and those that are computed."""

WIDTH = 110
"""Columns that the widest table needs: in a file, or a narrow terminal, lines break and no figure is cut."""


def show(name: str, said: dict[str, Any], console: Console) -> None:
    """Print everything that was measured of a shape."""
    console.print(f"\n{_machine(said['machine'])}")
    console.print(_throughput(name, said))
    for line in _parts(said):
        console.print(f"  {line}")


def _machine(told: dict[str, Any]) -> str:
    kind = ", ".join(told["flags"]) or told["processor"]
    threads = f"{told['threads']} thread on one core of {told['cores']} ({kind})"
    ours = f"ours in {told['numerics']['dtype']}, {told['numerics']['path']}"
    return f"{threads}, {ours}, torch {told['versions']['torch']}, {told['code']}"


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    return table


def _throughput(name: str, said: dict[str, Any]) -> Table:
    s = said["shape"]
    title = (
        f"{name}: {s['layers']} layers, width {s['width']}, {s['heads']} heads, feed-forward "
        f"{s['feedforward_width']}, length {s['length']}, batch {s['batch_size']}, {s['kind']} vocabulary"
    )
    headings = ("contestant", "tokens/s", "±", "ours / its", "low–high", "CPU", "model", "executed")
    table = _table(title, *headings, "M param", "MB")
    for peer, one in said["throughput"].items():
        ratio = said["spread"].get(peer)
        table.add_row(
            f"{peer}, {one['attention']}" if one["attention"] else peer,
            f"{one['tokens_per_second']:,.0f}",
            f"{50 * (max(one['rounds']) - min(one['rounds'])) / one['tokens_per_second']:.0f} %",
            f"{ratio['median']:.2f}" if ratio else "",
            f"{ratio['low']:.1f}–{ratio['high']:.1f}" if ratio else "",
            f"{100 * one['cpu_share']:.0f} %",
            *(f"{100 * one[key]:.0f} %" if key in one else "" for key in UTILISATION),
            f"{one['parameters'] / 1e6:.2f}",
            f"{one['memory_bytes'] / 1e6:.0f}",
        )
    table.caption = (
        "±: half the range over rounds; CPU: of the wall time; model, executed: operations of the plain model, "
        "and those that the contestant computes (ours: logits and last layer at the targets only), by what the "
        "machine's matrix products reach; eager, sdpa: the faster of its kinds of attention; dropout: peers "
        f".1, their default, ours {said['dropout']:g}\n"
        + _titles({peer: PEERS[peer].title for peer in said["throughput"]})
    )
    table.caption_justify = "left"
    return table


def _titles(titles: dict[str, str]) -> str:
    return "\n".join(f"{name}: {title}" for name, title in titles.items())


def _parts(said: dict[str, Any]) -> list[str]:
    lines = []
    if "matmul" in said:
        each = [
            f"{name} {one['flops_per_second'] / 1e9:,.0f} (best {one['best_flops_per_second'] / 1e9:,.0f})"
            for name, one in said["matmul"].items()
        ]
        lines.append(f"matrix products of a step, GFLOP/s: {', '.join(each)}")
    if "masking" in said:
        each = [f"{name} {speed / 1e6:.2f}" for name, speed in said["masking"].items()]
        lines.append(f"masking with labels, M tokens/s: {', '.join(each)}")
    if shares := said["masking_share"]:
        each = [f"{name} {100 * share:.1f}" for name, share in shares.items()]
        lines.append(f"masking, % of a step: {', '.join(each)}")
    for key, cores in (
        ("encoding", "one core"),
        ("encoding_all_cores", "all cores, by the clock, ours into shards"),
    ):
        if one := said.get(key):
            each = [f"{name} {speed:.2f}" for name, speed in one["megabytes_per_second"].items()]
            differs = "" if one["equal"] else "; THE TOKENS DIFFER"
            lines.append(f"encoding on {cores}, MB/s of {one['megabytes']:.1f} MB: {', '.join(each)}{differs}")
    if one := said.get("start"):
        lines.append(
            f"a job by the clock, median of some starts: {one['start_seconds']:.2f} s to its first step, of "
            f"{one['first_step_seconds']:.2f} s; {one['cpu_seconds']:.2f} s of CPU through it"
        )
    return lines


def quality(said: dict[str, Any]) -> Table:
    """Seconds to each level, by contestant."""
    levels = [f"{level:g}" for level in said["levels"]]
    headings = [text for level in levels for text in (f"s to {level} nats", "× ours")]
    title = f"time to quality, seconds of CPU, {_machine(said['machine'])}"
    table = _table(title, "contestant", *headings, "best nats", "s given", "s before")
    table.caption = (
        "s before: start and first step, in which what is made lazily is made; not in the others, which count "
        "from the second step on; dropout: peers .1, their default, ours as its recipe states it\n"
        + _titles({name: one["title"] for name, one in said["contestants"].items()})
    )
    table.caption_justify = "left"
    for name, one in said["contestants"].items():
        cells = []
        for level in levels:
            seconds, times = one["seconds"][level], one["times_ours"][level]
            ours = said["contestants"][OURS]["seconds"][level]
            spent = one["curves"][0][-1][0]
            missed = f"not in {spent / ours:.0f} ×" if ours else "not reached"
            by_ours = f"{times:.1f}" if times else ""
            cells += [f"{seconds:.1f}", by_ours] if seconds else ["", missed]
        best = min(point[2] for curve in one["curves"] for point in curve)
        bound = f"{one['bound_seconds']:.0f}" if one["bound_seconds"] else "its budget"
        table.add_row(name, *cells, f"{best:.2f}", bound, f"{one['start_seconds']:.1f}")
    return table
