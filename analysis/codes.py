"""Which code trained which runs: several are refused unless asked for, and then every output says so."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from analysis.tidy import Collected
from mlm import identity, layout
from mlm.errors import InputError

Codes = Mapping[str, Sequence[str]]
"""Code -> digests of the runs that it trained."""
MIXED = "mixed code"
"""What a mark of such outputs begins with."""
SHOWN = 8
"""Hexadecimal digits of a code in a mark."""


def named(planned: Iterable[str]) -> str:
    """One name for the planned code, whatever paths through it the runs take, each with a name of its own."""
    apart = sorted({*planned})
    return apart[0] if len(apart) == 1 else identity.digest(apart)


def refuse_mixed(codes: Codes, of: str, mixed: bool) -> None:
    """Refuse runs of different code.

    Args:
        codes: the planned one among them, even where it trained none.
        of: whose runs they are, for the message.
        mixed: that was asked for.

    Raises:
        InputError: names the codes and a run of each.
    """
    if len(codes) > 1 and not mixed:
        folder = layout.RESULTS / "runs"
        parts = "; ".join(
            f"{code}: {len(found)} runs{f', such as {folder / found[0]}' if found else ''}"
            for code, found in codes.items()
        )
        raise InputError(
            f"{folder}: code: the runs of {of} were trained by different code ({parts}); "
            "plan the study again and train what is missing, so that one code made all of them, or take them "
            "together with `--config mixed=true`, which every output then says"
        )


def together(found: Iterable[Collected]) -> dict[str, list[str]]:
    """The codes of several experiments, each run once."""
    told, codes = list(found), dict[str, dict[str, None]]()
    planned = named(one.planned for one in told if one.codes)
    for one in told:
        for code, digests in one.codes.items():
            codes.setdefault(planned if code == one.planned else code, {}).update(dict.fromkeys(digests))
    return {code: list(codes[code]) for code in sorted(codes)}


def mark(codes: Codes) -> list[str]:
    """The mark of outputs that runs of different code stand behind.

    >>> mark({"aaaaaaaabbbbbbbb": ["1", "2"], "ccccccccdddddddd": ["3"]}), mark({"a": ["1"]})
    (['mixed code: 2 runs of aaaaaaaa, 1 run of cccccccc'], [])
    """
    if len(codes) < 2:
        return []
    counts = (f"{len(runs)} run{'s' * (len(runs) > 1)} of {code[:SHOWN]}" for code, runs in codes.items())
    return [f"{MIXED}: {', '.join(counts)}"]


def listed(collected: Collected, several: bool = False) -> Iterator[tuple[str, str]]:
    """(code, the runs that it trained by arm and seed), where there are several codes, here or elsewhere."""
    trained = collected.trained.drop_duplicates("run")
    names = {
        run: layout.run_name(arm, seed)
        for run, arm, seed in zip(trained["run"], trained["arm"], trained["seed"], strict=True)
    }
    if several or len(collected.codes) > 1:
        for code, digests in collected.codes.items():
            mine = {*digests}
            yield code, ", ".join(name for run, name in names.items() if run in mine)
