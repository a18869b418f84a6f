"""What paper/paper.md may say: the functions and values that its << >> can name."""

from collections.abc import Sequence
from typing import Any

from analysis import contrasts, labels, marks, outputs, panels, published, sentences, setup, tidy
from analysis.quote import Quoter
from analysis.study import Study
from mlm import layout, yaml_file
from mlm.errors import InputError
from mlm.experiment import Family

# The encoder's settings in words; a setting without words here stops the build rather than pass unsaid.
WORDS: dict[str, dict[Any, str]] = {
    "encoder.positions": {
        "rotary": "rotary positions [@su2021roformer]",
        "learned": "learned absolute positions",
        "sinusoidal": "sinusoidal positions [@vaswani2017attention]",
    },
    "encoder.norm": {"rms": "RMSNorm without gain [@zhang2019rmsnorm]", "layer": "layer normalisation"},
    "encoder.norm_place": {"pre": "before", "post": "behind"},
    "encoder.activation": {"relu_squared": "ReLU² [@so2021primer]", "gelu": "GELU"},
    "encoder.query_key_norm": {
        True: "with normalised queries and keys [@henry2020querykey]",
        False: "with scaled dot products",
    },
    "encoder.biases": {True: "with biases", False: "without biases"},
    "encoder.head_transform": {True: "a dense layer and", False: ""},
    "masking.selection": {"exact": "exact", "bernoulli": "bernoulli"},
    "vocabulary.kind": {"unigram": "unigram language model", "bpe": "byte-pair encoding", "char": "characters"},
}


class Part:
    """An experiment as the paper sees it."""

    def __init__(self, study: Study, name: str, quote: Quoter) -> None:
        self.name, self.quote = name, quote
        self.stated = study.experiment(name)
        self.collected = tidy.load(study.scale, name)
        self.contrasts = contrasts.load(study.scale, name)
        self.panels = {panel.name: panel for panel in panels.panels(study, name, self.collected)}
        self.common = setup.shared(study, name)
        self.corpus = setup.corpus(study, name)
        self.versions, self.commits = setup.versions(study, name), setup.commits(study, name)
        self.partial, self.runs = self.collected.partial, self.collected.runs

    def family(self, family: Family) -> list[contrasts.Result]:
        """Contrasts of a family, in the order of the file."""
        return [result for result in self.contrasts if result.family == family]

    def verdict(self, result: contrasts.Result) -> str:
        """A contrast in words."""
        size = sum(other.family == result.family for other in self.contrasts)
        return sentences.verdict(result, self.quote, size)

    def headline(self) -> str:
        """The primary contrast for the abstract."""
        return " ".join(sentences.headline(result, self.quote) for result in self.family("primary"))

    def tally(self, family: Family) -> str:
        """How the verdicts of a family fell."""
        return sentences.tally(self.family(family))

    def words(self, key: str) -> str:
        """A setting in words.

        Raises:
            InputError: the runs do not share it, or there are no words for its value.
        """
        value = self.common.get(key)
        if value is None or value not in WORDS.get(key, {}):
            raise InputError(
                f"no words for {key} = {value!r}, shared by all runs of {self.name}; "
                "add them to analysis/manuscript.py"
            )
        return WORDS[key][value]


def vocabulary(study: Study, experiments: Sequence[str], quote: Quoter) -> dict[str, Any]:
    """Name -> value or function, for the template."""
    parts = {name: Part(study, name, quote) for name in experiments}

    def part(name: str) -> Part:
        if name not in parts:
            raise InputError(
                f"the paper tells of experiment {name!r}, which is not among: {', '.join(parts)}; "
                f"give --experiment {name} to numbers and paper"
            )
        return parts[name]

    def panel(experiment: str, name: str, caption: str = "") -> str:
        found = part(experiment).panels.get(name)
        if found is None:
            raise InputError(
                f"no table of {experiment} is called {name!r}; there are: {', '.join(part(experiment).panels)}"
            )
        rows = [*found.rows, *([RULE] if found.references else []), *found.references]
        return pipe_table(f"{experiment}-{name}", caption or found.caption, found.columns, rows)

    def has_table(experiment: str, name: str) -> bool:
        return name in part(experiment).panels

    def figure(experiment: str, name: str, caption: str) -> str:
        path = layout.figures(study.scale, experiment) / f"{name}.pdf"
        if not path.exists():
            raise InputError(f"{path}: missing; run `python -m analysis figures {study.scale} {experiment}`")
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

    def ledger() -> str:
        columns = ("id", "value", "95 % interval", "n", "runs", "first run")
        return pipe_table(
            "ledger", "Every number quoted in the text, with the runs it came from.", columns, quote.ledger()
        )

    probe = yaml_file.read(outputs.PROBE_FILE, "the paper names the probe's data; restore it")
    seen = [] if study.evidence else [marks.SMOKE]
    seen += [f"{name}: {marks.partial(one.runs)}" for name, one in parts.items() if one.partial]
    return {
        "num": quote.num,
        "ci": quote.ci,
        "est": quote.est,
        "p": quote.p,
        "has": quote.has,
        "part": part,
        "table": panel,
        "has_table": has_table,
        "figure": figure,
        "beside": beside,
        "agreement": lambda experiment, name: published.agreement(
            published.load(name), part(experiment).contrasts
        ),
        "words": sentences.count_word,
        "arm": labels.arm,
        "ledger": ledger,
        "probe": {"title": probe["title"], "licence": probe["licence"]},
        "scale": study.scale,
        "evidence": study.evidence,
        "partial": any(one.partial for one in parts.values()),
        "marks": seen,
        "watermark": "partial" if study.evidence else marks.SMOKE,
    }


RULE = ("\\midrule",)
"""A row that the Lua filter turns into a rule."""


def pipe_table(label: str, caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that can be referred to as [@tbl:label]."""
    rules = [":---", *["---:"] * (len(columns) - 1)]
    full = [[*row, *[""] * (len(columns) - len(row))] for row in rows]
    lines = ["| " + " | ".join(_cell(cell) for cell in line) + " |" for line in (columns, *full)]
    lines.insert(1, "| " + " | ".join(rules) + " |")
    return "\n".join(lines) + f"\n\n: {caption} {{#tbl:{label}}}\n"


def _cell(text: str) -> str:
    if text == RULE[0] or text.startswith("`"):
        return text.replace(RULE[0], "`\\midrule`")
    return text.replace(" ± ", "\u00a0±\u00a0").replace("[", "\\[").replace("]", "\\]").replace("|", "\\|")
