"""results/<scale>/numbers.json: every number that the paper may quote, by id, with where it comes from.

An entry holds value, low and high (null where there is no interval, or n is too small for one), n,
digits (decimals to show; null: as it is), unit, interval (how it was made), runs (digests), code and
git_commit of these (lists: of one each, unless they differ; `+dirty` where a work tree had changes), inputs
(corpus.json, vocabulary.model and shards.json by path, with their SHA-256) and tables (what it was read from,
likewise); a cost of reaching a loss also `reached`, how many runs did, and a difference of such costs
`up_to_tokens`, up to where they count if that is not all the way; `stated` where a contrast was not stated
before the runs, or that is not known. What arms share stands once, what differs between them by arm. No
seconds: those differ from machine to machine.
"""

from collections.abc import Iterable, Iterator, Sequence

from analysis import (
    codes,
    contrasts,
    labels,
    leaving,
    numbers_study,
    origins,
    outputs,
    provenance,
    reached,
    references,
    setup,
    summary,
    tidy,
)
from analysis.contrasts import Result
from analysis.entries import Entry, new_entry
from analysis.study import Study
from mlm import measures
from mlm.errors import Damaged
from mlm.files import read_json, write_json

T, SIGN_FLIP = "95 % Student t", "95 % sign-flip, unadjusted"
TWO_LEVEL = "95 % multi-bootstrap over seeds and examples, unadjusted"


def write(study: Study, experiments: Iterable[str], mixed: bool = False) -> None:
    """Write numbers.json over experiments whose results and contrasts have been made.

    Args:
        mixed: take experiments whose runs are of different code together.

    Raises:
        InputError: they are, and that was not asked for.
    """
    found: dict[str, Entry] = {}
    told, of_all = list(experiments), dict[str, origins.Origin]()
    found_codes = codes.together(tidy.load(study.scale, name) for name in told)
    codes.refuse_mixed(found_codes, ", ".join(told), mixed)
    for name in told:
        mine, read = origins.of_runs(study, name), origins.tables(study, [name])
        of_all |= mine
        found |= {key: origins.told(entry, mine, read) for key, entry in of(study, name)}
    read = origins.tables(study, told)
    for key, entry in numbers_study.of_all(study, told):
        found[key] = origins.told(entry, of_all, read)
    provenance.forget("numbers", study.scale)
    write_json(outputs.numbers_file(study.scale), found)
    provenance.write("numbers", study.scale, read=read, wrote=outputs.files("numbers", study.scale))


def load(scale: str) -> dict[str, Entry]:
    """The entries by id.

    Raises:
        Damaged: the file is missing or not what was written.
    """
    path = outputs.numbers_file(scale)
    remedy = f"run `python -m analysis numbers {scale}` again"
    provenance.check("numbers", scale)
    content = read_json(path, remedy)
    if not isinstance(content, dict) or not all(isinstance(e, dict) and "value" in e for e in content.values()):
        raise Damaged(f"{path}: damaged; {remedy}")
    return content


def of(study: Study, name: str) -> Iterator[tuple[str, Entry]]:
    """Every number of an experiment that may be quoted, by its id."""
    experiment, collected = study.experiment(name), tidy.load(study.scale, name)
    ended = [digest for mine in collected.codes.values() for digest in mine]
    for key, value, unit in setup.numbers(study, name):
        whole = isinstance(value, int)
        yield f"{name}.setup.{key}", new_entry(value, 0 if whole else None, unit, ended)
    for state, count in collected.runs.items():
        yield f"{name}.runs.{state}", new_entry(count, 0, "runs", ended)
    if experiment.accepted:
        arms = {arm for change in experiment.accepted for arm in change.arms}
        kept = [cell.digest for cell in study.cells(name) if cell.arm in arms]
        yield f"{name}.runs.accepted", new_entry(len(kept), 0, "runs", kept)
    for arm, key, value, unit in setup.own_numbers(study, name):
        digits = 0 if isinstance(value, int) else None
        yield f"{name}.{arm}.setup.{key}", new_entry(value, digits, unit, ended)
    yield from numbers_study.cost(name, collected)
    for arm in experiment.arms:
        yield from _of_arm(name, arm, collected, ended)
    for figure in experiment.figures:
        if figure.kind == "leaving":
            lines = leaving.lines(study, name, collected, figure)
            yield from numbers_study.of_leaving(f"{name}.{figure.stem}", lines, collected)
    for result in contrasts.load(study.scale, name):
        yield from _of_contrast(result)
    yield from _references(name, collected, ended)


def _of_arm(
    name: str, arm: str, collected: tidy.Collected, ended: Sequence[str]
) -> Iterator[tuple[str, Entry]]:
    yield f"{name}.{arm}.diverged", new_entry(len(collected.diverged(arm)), 0, "runs", ended)
    measured = dict.fromkeys(collected.results[collected.results["arm"] == arm]["measure"])
    for measure in measured:
        if measure.split(".")[0] in (*measures.BESIDE, "training"):
            continue
        found = summary.estimate(collected.array(arm, measure))
        digests = list(collected.digests(arm, measure).values())
        counted = measure.startswith("realised.")
        value, digits = found.mean if found else None, 1 if counted else labels.digits(measure)
        entry = new_entry(value, digits, _unit(measure), digests)
        if found is not None:
            bounded = found.n > 1
            entry |= {
                "n": found.n,
                "low": found.low if bounded else None,
                "high": found.high if bounded else None,
            }
        if told := reached.of(collected, arm, measure):
            entry |= {"reached": str(told)}
        yield f"{name}.{arm}.{measure}.mean", entry | {"interval": T}


def _of_contrast(result: Result) -> Iterator[tuple[str, Entry]]:
    base = new_entry(None, result.digits, _unit(result.measure), result.runs) | {"n": result.n}
    ends: Entry = {"interval": SIGN_FLIP}
    if result.bounded:
        ends |= {"low": result.low, "high": result.high}
    if result.up_to_tokens is not None:
        ends["up_to_tokens"] = result.up_to_tokens
    if result.untested:
        ends["untested"] = True
    if result.stated != "beforehand":
        ends["stated"] = result.stated
    if result.seeds_added:
        ends["seeds_added"] = list(result.seeds_added)
    yield f"{result.id}.difference", base | {"value": result.difference} | ends
    if result.examples:
        both = {"low": result.two_level_low, "high": result.two_level_high, "interval": TWO_LEVEL}
        yield f"{result.id}.two_level", base | {"value": result.difference, "examples": result.examples} | both
    yield (
        f"{result.id}.effect_size",
        base | {"value": result.effect_size, "digits": 2, "unit": "SD of the paired differences"},
    )
    yield f"{result.id}.detectable", base | {"value": result.detectable}
    yield f"{result.id}.seeds_needed", base | {"value": result.seeds_needed, "digits": 0, "unit": "pairs"}
    yield f"{result.id}.p", base | {"value": result.p, "digits": 4, "unit": "p"}
    yield f"{result.id}.p_holm", base | {"value": result.p_holm, "digits": 4, "unit": "p"}
    yield f"{result.id}.n", base | {"value": result.n, "digits": 0, "unit": "pairs"}
    yield f"{result.id}.planned", base | {"value": result.planned, "digits": 0, "unit": "pairs"}
    if result.margin is not None:
        yield f"{result.id}.margin", base | {"value": result.margin, "digits": None}
        for key, p in (("p_beyond", result.p_beyond), ("p_beyond_holm", result.p_beyond_holm)):
            yield f"{result.id}.{key}", base | {"value": p, "digits": 4, "unit": "p"}


def _references(name: str, collected: tidy.Collected, ended: Sequence[str]) -> Iterator[tuple[str, Entry]]:
    for measure in dict.fromkeys(collected.results["measure"]):
        if measure.startswith("untrained."):
            for arm, found in references.untrained(collected, measure).items():
                ends = {"low": found.low, "high": found.high} if found.n > 1 else {}
                r = collected.results
                mine = (r["measure"] == measure) & r["value"].notna() & (r["arm"].eq(arm) | (arm == ""))
                digests = sorted(set(r[mine]["run"]))
                entry = new_entry(found.mean, labels.digits(measure), _unit(measure), digests)
                yield f"{_of(name, arm)}.{measure}.mean", entry | ends | {"n": found.n, "interval": T}
        elif measure.startswith("training."):
            for arm, took in references.training(collected, measure).items():
                unit = _unit(measure) if measure != "training.steps" else "steps"
                used = collected.digests(arm, measure).values() if arm else None
                yield f"{_of(name, arm)}.{measure}", new_entry(took, 0, unit, ended if used is None else used)
        elif measure.startswith(("reference.", "count.")):
            counted = not measure.startswith("reference.")
            unit = measure.split(".")[-1] if counted else _unit(measure)
            for arm, value in references.fixed(collected, measure).items():
                entry = new_entry(int(value) if counted else value, 0 if counted else 3, unit, ended)
                yield f"{_of(name, arm)}.{measure}", entry


def _of(name: str, arm: str) -> str:
    """What ids begin with: of an experiment, or of one of its arms."""
    return f"{name}.{arm}" if arm else name


def _unit(measure: str) -> str:
    if measure.startswith("realised."):
        return "tokens"
    last = measure.rsplit(".", maxsplit=1)[-1]
    units = {"loss_nats": "nats", "flops": "FLOPs", "per_byte": "bits per byte", "layout": "bits per byte"}
    return "tokens" if last.endswith("tokens") else units.get(last, "share")
