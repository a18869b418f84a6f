"""What paper/paper.md may say: the functions and values that its << >> can name."""

from collections.abc import Iterable, Sequence
from typing import Any

from analysis import codes, labels, marks, outputs, published, report_tables, sentences, setup, verdicts
from analysis.manuscript_markdown import RULE, escaped, listed, pipe_table
from analysis.manuscript_part import Part
from analysis.manuscript_settings import Settings
from analysis.quote import Quoter
from analysis.study import Study
from mlm import layout, yaml_file
from mlm.errors import InputError
from mlm.experiment import Family


def vocabulary(study: Study, experiments: Sequence[str], quote: Quoter) -> dict[str, Any]:
    """Name -> value or function, for the template."""
    parts = {name: Part(study, name, quote) for name in experiments}
    settings = Settings(list(parts.values()), quote)

    def part(name: str) -> Part:
        if name not in parts:
            raise InputError(
                f"the paper tells of experiment {name!r}, which is not among: {', '.join(parts)}; "
                f"give --experiment {name} to numbers and paper"
            )
        return parts[name]

    def panel(experiment: str, name: str) -> str:
        found = part(experiment).panels.get(name)
        if found is None:
            raise InputError(
                f"no table of {experiment} is called {name!r}; there are: {', '.join(part(experiment).panels)}"
            )
        rows = [*found.rows, *([RULE] if found.references else []), *found.references]
        return pipe_table(f"{experiment}-{name}", found.caption, found.columns, rows)

    def figure(experiment: str, name: str) -> str:
        path = layout.figures(study.scale, experiment) / f"{name}.pdf"
        if not path.exists():
            raise InputError(f"{path}: missing; run `python -m analysis figures {study.scale} {experiment}`")
        caption = escaped(part(experiment).captions[name])
        return f"![{caption}](/{path.as_posix()}){{#fig:{experiment}-{name}}}"

    def beside(experiment: str, name: str) -> str:
        source, one = published.load(name), part(experiment)
        columns, rows = published.beside(source, one.set_beside(source))
        caption = (
            f"{source.title} [@{source.citation}], {source.place}, beside this study. Δ are differences to "
            f"{labels.arm(source.baseline)}{_but(source)}, ours in {one.measure}, paired by seed. Units "
            "differ: only signs and order compare. A verdict is that of a contrast stated beforehand; what no "
            "contrast states is not tested."
        )
        return pipe_table(f"{experiment}-{name}", caption, columns, rows)

    def first(key: str) -> str:
        found = [f"{name}.{key}" for name in parts if quote.has(f"{name}.{key}")]
        return quote.num(found[0]) if found else ""

    def measured(prefix: str) -> bool:
        stated = (names for one in parts.values() for names in one.stated.measures.values())
        return any(name.startswith(prefix) for names in stated for name in names)

    def primaries() -> str:
        rows = []
        told = [(one.name, result) for one in parts.values() for result in one.family("primary")]
        for name, result in told:
            ends = (labels.number(end, result.digits) for end in (result.low, result.high))
            held = [quote.p(f"{result.id}.{p}").removeprefix("= ") for p in ("p", "p_holm_primaries")]
            difference = labels.number(result.difference, result.digits, signed=True)
            rows.append(
                (
                    name,
                    result.words,
                    difference,
                    " to ".join(ends) if result.bounded else "—",
                    *held,
                    result.verdict,
                )
            )
        withdrawn = [row for one in parts.values() for row in one.withdrawn if row.family == "primary"]
        caption = (
            "The primary contrasts of all experiments, each in the unit of its own measure: difference, 95 % "
            "interval (unadjusted), p, and p after Holm's correction over all of them. The verdict is that of "
            f"the experiment by itself.{report_tables.restricted(result for _, result in told)}"
            f"{report_tables.stated((result for _, result in told), withdrawn)}"
        )
        columns = ("experiment", "contrast", "difference", "95 % interval", "p", "Holm p", "verdict")
        return pipe_table("primaries", caption, columns, rows)

    def held_together() -> str:
        """How many primary contrasts hold after Holm's correction over all of them."""
        entries = [quote.entry(f"{one.id}.p_holm_primaries")["value"] for part in parts.values()
                   for one in part.family("primary")]  # fmt: skip
        held = sum(value is not None and value < verdicts.LEVEL for value in entries)
        return sentences.together(held, len(entries))

    def ledger() -> str:
        columns = ("id", "value", "95 % interval", "n", "runs", "first run")
        return pipe_table(
            "ledger", "Every number quoted in the text, with the runs it came from.", columns, quote.ledger()
        )

    def _but(source: published.Published) -> str:
        rows = [f"{labels.arm(row)}: to {labels.arm(other)}" for row, other in source.against.items()]
        return f" ({'; '.join(rows)})" if rows else ""

    def fallen(family: Family) -> list[tuple[str, str]]:
        return [(one.name, result.verdict) for one in parts.values() for result in one.family(family)]

    probe = yaml_file.read(outputs.PROBE_FILE, "the paper names the probe's data; restore it")
    seen = [] if study.evidence else [marks.SMOKE]
    watermark = marks.SMOKE if not study.evidence else "partial"
    for name, one in parts.items():
        seen += [f"{name}: {marks.partial(one.runs)}"] if one.partial else []
    if mixed := codes.mark(codes.together(one.collected for one in parts.values())):
        seen, watermark = [*seen, *mixed], watermark if seen else "mixed code"
    texts = {one.corpus.title: one for one in reversed(parts.values()) if one.corpus}
    versions = [one.versions for one in parts.values() if one.versions]
    return {
        "num": quote.num,
        "ci": quote.ci,
        "est": quote.est,
        "p": quote.p,
        "has": quote.has,
        "first": first,
        "parts": list(parts.values()),
        "part": part,
        "values": settings.values,
        "said": settings.words,
        "setting": settings.numbers,
        "measured": measured,
        "leaving": any(one.kind == "leaving" for each in parts.values() for one in each.stated.figures),
        "table": panel,
        "figure": figure,
        "refs": lambda kind, name, stems: listed([f"[@{kind}:{name}-{stem}]" for stem in stems], "and"),
        "beside": beside,
        "published": published.load,
        "shapes": sentences.shapes,
        "verdicts": sentences.by_verdict,
        "fallen": fallen,
        "tally": lambda family: sentences.tally([r for one in parts.values() for r in one.family(family)]),
        "names": list(parts),
        "stated": settings.stated,
        "devices": _devices(study, list(parts)),
        "diverged": _diverged(parts.values()),
        "listed_titles": listed([f"*{title}*" for title in texts], "and"),
        "words": sentences.count_word,
        "arm": labels.arm,
        "ledger": ledger,
        "primaries": primaries,
        "held_together": held_together,
        "probe": {"title": probe["title"], "licence": probe["licence"]},
        "corpora": list(reversed(texts.values())),
        "clean": not any("with changes" in commit for one in parts.values() for commit in one.commits),
        "commits": sorted({commit for one in parts.values() for commit in one.commits}),
        "versions": {k: v for k, v in versions[0].items() if all(o.get(k) == v for o in versions)}
        if versions
        else {},
        "accepted": _accepted(parts.values()),
        "scale": study.scale,
        "evidence": study.evidence,
        "partial": any(one.partial for one in parts.values()),
        "marks": seen,
        "mixed": [
            (code, f"{name} {runs}")
            for name, one in parts.items()
            for code, runs in codes.listed(one.collected, several=bool(mixed))
        ],
        "watermark": watermark,
    }


def _accepted(parts: Iterable[Part]) -> list[tuple[str, str]]:
    """(why, experiments) of each change of the code's bits in spite of which runs were kept."""
    found: dict[str, list[str]] = {}
    for part in parts:
        for change in part.stated.accepted:
            found.setdefault(change.why, []).append(f"*{part.name}*")
    return [(escaped(why), listed(names, "and")) for why, names in found.items()]


def _devices(study: Study, names: Sequence[str]) -> str:
    """On what the runs were trained and in which numbers they were computed."""
    found = sorted({told for name in names for told in setup.devices(study, name)})
    return f"Each run was trained on {listed(found, 'or')}." if found else "No run has ended yet."


def _diverged(parts: Iterable[Part]) -> str:
    lost = [
        f"{one.quote.num(f'{one.name}.runs.diverged')} of *{one.name}*" for one in parts if one.runs["diverged"]
    ]
    return f"Of these {listed(lost, 'and')} diverged, and are counted so." if lost else "No run diverged."
