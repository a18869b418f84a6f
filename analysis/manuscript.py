"""What paper/paper.md may say: the functions and values that its << >> can name."""

from collections.abc import Iterable, Sequence
from typing import Any

from analysis import codes, labels, marks, outputs, published, report_tables, sentences
from analysis.manuscript_markdown import RULE, escaped, listed, pipe_table
from analysis.manuscript_part import Part
from analysis.manuscript_settings import Settings
from analysis.quote import Quoter
from analysis.study import Study
from mlm import layout, yaml_file
from mlm.errors import InputError


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
        source = published.load(name)
        columns, rows = published.beside(source, part(experiment).contrasts)
        caption = (
            f"{source.title} [@{source.citation}, {source.place}], beside this study. Δ are differences to "
            f"{labels.arm(source.baseline)}; fine-tuned unless frozen features are named. Units differ: only "
            "signs and order compare."
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
            digits = labels.digits(result.measure)
            ends = (labels.number(end, digits) for end in (result.low, result.high))
            held = [quote.p(f"{result.id}.{p}").removeprefix("= ") for p in ("p", "p_holm_primaries")]
            difference = labels.number(result.difference, digits, signed=True)
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
        caption = (
            "The primary contrasts of all experiments, each in the unit of its own measure: difference, 95 % "
            "interval (unadjusted), p, and p after Holm's correction over all of them. The verdict is that of "
            f"the experiment by itself.{report_tables.restricted(result for _, result in told)}"
            f"{report_tables.stated(result for _, result in told)}"
        )
        columns = ("experiment", "contrast", "difference", "95 % interval", "p", "Holm p", "verdict")
        return pipe_table("primaries", caption, columns, rows)

    def ledger() -> str:
        columns = ("id", "value", "95 % interval", "n", "runs", "first run")
        return pipe_table(
            "ledger", "Every number quoted in the text, with the runs it came from.", columns, quote.ledger()
        )

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
        "agreement": lambda experiment, name: published.agreement(
            published.load(name), part(experiment).contrasts
        ),
        "words": sentences.count_word,
        "arm": labels.arm,
        "ledger": ledger,
        "primaries": primaries,
        "probe": {"title": probe["title"], "licence": probe["licence"]},
        "corpora": list(reversed(texts.values())),
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
