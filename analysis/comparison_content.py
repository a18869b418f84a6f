"""What the comparison page shows, as data: curves, ends and verdicts by the rules of figures and tables."""

import colorsys
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis import (
    contrasts,
    figure_curves,
    figure_over,
    labels,
    marks,
    reached,
    setup,
    style,
    summary,
    tidy,
    verdicts,
)
from analysis.signflip import SignFlip
from analysis.study import Experiment, Study
from mlm import measures

LINE_WIDTH = 2  # pixels; matplotlib counts dashes in widths, the page in pixels
Values = Mapping[int, float]
"""Seed -> value."""


def content(study: Study, names: list[str]) -> dict[str, Any]:
    """All that the page shows; numbers are those of the tables, an infinite limit is None."""
    shown = [_experiment(study, name) for name in names]
    curves = dict.fromkeys(m for e in shown for arm in e["arms"] for m in arm["curves"])
    after = dict.fromkeys(m for e in shown for m in e["after"])
    first = figure_curves.MEASURE
    return {
        "scale": study.scale,
        "mark": None if study.evidence else marks.SMOKE,
        "measures": [_measure(name) for name in curves],
        "after": [_measure(name) for name in after],
        "first": first if first in curves else next(iter(curves), None),
        "verdicts": dict(verdicts.VERDICTS),
        "experiments": shown,
    }


def _experiment(study: Study, name: str) -> dict[str, Any]:
    experiment, collected = study.experiment(name), tidy.load(study.scale, name)
    seconds = _seconds_per_token(study.scale, name, collected)
    planned = setup.planned(study, name)
    spent = {arm: figure_over.operations(run, collected, arm) for arm, run in planned.items()}
    arms = [_arm(study, name, arm, collected, seconds, spent[arm]) for arm in experiment.arms]
    c, r = collected.curves, collected.results
    last = c[c["value"].notna()].sort_values("tokens", kind="stable")
    last = last.drop_duplicates(["measure", "arm", "seed"], keep="last")
    ends: dict[str, dict[str, dict[int, float]]] = {}
    for measure, arm, seed, value in zip(
        last["measure"], last["arm"], last["seed"], last["value"], strict=True
    ):
        if seed not in collected.diverged(arm):
            ends.setdefault(measure, {}).setdefault(arm, {})[int(seed)] = float(value)
    known = {
        measure: {arm: reached.of(collected, arm, measure) for arm in experiment.arms}
        for measure in dict.fromkeys(r["measure"])
    }
    after = {
        measure: {arm: _by_seed(collected.values(arm, measure)) for arm in experiment.arms}
        for measure in dict.fromkeys(r["measure"])
        if any(measures.known(measure, names) for names in experiment.measures.values())
    }
    stated = contrasts.load(study.scale, name)
    return {
        "name": name,
        "title": experiment.title,
        "question": experiment.question,
        "baseline": experiment.baseline,
        "primary": experiment.primary_measure,
        "mark": " · ".join(marks.of_results(collected)) or None,
        "arms": arms,
        "ends": {m: _rows(experiment, m, values, [], collected.partial) for m, values in ends.items()},
        "after": {
            m: _rows(experiment, m, values, [s for s in stated if s.measure == m], collected.partial, known[m])
            for m, values in after.items()
        },
    }


def _arm(
    study: Study, name: str, arm: str, collected: tidy.Collected,
    seconds: Mapping[tuple[str, int], float], spent: figure_curves.Grown,
) -> dict[str, Any]:  # fmt: skip
    colour, dash, _ = style.line(study.experiment(name).arms.index(arm))
    gone = collected.diverged(arm)
    c, r = collected.curves, collected.results
    rows = c[(c["arm"] == arm) & ~c["seed"].isin(gone)]
    status = r[r["arm"] == arm].drop_duplicates("seed").set_index("seed")["status"].to_dict()
    runs = [
        {
            "seed": cell.seed,
            "digest": cell.digest,
            "status": status[cell.seed],
            "seconds_per_token": seconds.get((arm, cell.seed)),
        }
        for cell in study.cells(name)
        if cell.arm == arm
    ]
    drawn = [seconds[arm, s] for s in sorted({int(s) for s in rows["seed"]}) if (arm, s) in seconds]
    return {
        "name": arm,
        "label": labels.arm(arm),
        "colour": colour,
        "dark": _on_dark(colour),
        "dash": _dashes(dash),
        "runs": runs,
        "seconds_per_token": sum(drawn) / len(drawn) if drawn else None,
        "curves": {str(m): _curve(of, spent) for m, of in rows.groupby("measure", sort=False)},
    }


def _curve(rows: pd.DataFrame, spent: figure_curves.Grown) -> dict[str, Any]:
    """Mean, 95 % interval and n at every moment, by tokens and operations, and the seeds behind them."""
    table = rows.pivot(index="tokens", columns="seed", values="value").sort_index()
    found = [summary.estimate(values[~pd.isna(values)]) for values in table.to_numpy(dtype=float)]
    tokens, done = map(np.asarray, spent)
    operations = np.interp(table.index.to_numpy(dtype=np.float64), tokens, done)
    return {
        "tokens": [int(at) for at in table.index],
        "flops": [round(float(at)) for at in operations],
        "mean": [e and e.mean for e in found],
        "low": [e and _finite(e.low) for e in found],
        "high": [e and _finite(e.high) for e in found],
        "n": [e.n if e else 0 for e in found],
        "seeds": {int(seed): [_finite(v) for v in table[seed]] for seed in table.columns},
    }


def _rows(
    experiment: Experiment,
    measure: str,
    values: Mapping[str, Values],
    stated: Iterable[contrasts.Result],
    partial: bool,
    known: Mapping[str, reached.Reached | None] | None = None,
) -> dict[str, dict[str, Any]]:
    """Arm -> mean, interval and n; the paired difference from the baseline; what contrasts say of it.

    Args:
        partial: runs are missing, so that differences have no interval.
        known: of costs of reaching a loss, how many runs do; where some do not, these means are not compared.
    """
    stated = list(stated)
    base = values.get(experiment.baseline, {})
    told = {arm: one for arm, one in (known or {}).items() if one}
    lost = {arm for arm, one in told.items() if one.censored}
    alone = set(experiment.arms) if experiment.baseline in lost else lost | {experiment.baseline}
    return {
        arm: _estimate(list(values.get(arm, {}).values()))
        | {
            "reached": str(told[arm]) if arm in told else None,
            "difference": _difference(measure, values.get(arm, {}), base, partial)
            if arm not in alone
            else None,
            "verdicts": [_verdict(result, experiment.baseline) for result in stated if result.arm == arm],
        }
        for arm in experiment.arms
    }


def _by_seed(values: pd.Series) -> dict[int, float]:
    return dict(zip(values.index.tolist(), values.tolist(), strict=True))


def _estimate(values: list[float]) -> dict[str, Any]:
    found = summary.estimate(values)
    if found is None:
        return {"mean": None, "low": None, "high": None, "n": 0}
    return {"mean": found.mean, "low": _finite(found.low), "high": _finite(found.high), "n": found.n}


def _difference(measure: str, arm: Values, base: Values, partial: bool) -> dict[str, Any] | None:
    pairs = [arm[seed] - base[seed] for seed in sorted(arm) if seed in base]
    if not pairs:
        return None
    test = SignFlip(pairs, max(map(abs, (*arm.values(), *base.values()))))
    low, high = map(_finite, (math.inf, math.inf) if partial else test.interval())
    digits = labels.telling(labels.digits(measure), test.mean, low, high)
    return {"mean": test.mean, "low": low, "high": high, "n": test.n, "digits": digits}


def _verdict(result: contrasts.Result, baseline: str) -> dict[str, str]:
    margin = result.margin
    claim = f"within ±{labels.number(margin, None)}" if margin is not None else f"expected {result.expect}"
    if result.against != baseline or result.up_to_tokens is not None:
        difference = labels.number(result.difference, result.digits, signed=True)
        claim = f"{difference} against {labels.arm(result.against)}, {claim}"
    _, p_holm = result.tested
    p = "" if p_holm is None else f"; Holm p {labels.p_value(p_holm)}"
    note = f"; {result.note}" if result.note else ""
    note += f"; post hoc: {result.stated_note}" if result.stated == "post hoc" else ""
    return {"verdict": result.verdict, "detail": f"{result.family}: {claim}{p}{note}"}


def _seconds_per_token(scale: str, name: str, collected: tidy.Collected) -> dict[tuple[str, int], float]:
    """(arm, seed) -> training seconds of a token, from seconds.csv; also of runs that diverged."""

    def of(rows: pd.DataFrame, measure: str) -> dict[tuple[str, int], float]:
        mine = rows[rows["measure"] == measure].dropna(subset="value")
        return {(arm, int(seed)): value for arm, seed, value in mine[["arm", "seed", "value"]].to_numpy()}

    tokens = of(collected.trained, "training.tokens")
    seconds = of(tidy.seconds(scale, name), "training_seconds")
    return {cell: took / tokens[cell] for cell, took in seconds.items() if tokens.get(cell)}


def _measure(name: str) -> dict[str, Any]:
    return {"name": name, "label": labels.measure(name), "digits": labels.digits(name)}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _dashes(dash: style.Dash) -> str:
    """A matplotlib dash as the lengths in pixels that plotly and SVG understand."""
    return "" if isinstance(dash, str) else ",".join(f"{LINE_WIDTH * part:g}px" for part in dash[1])


def _on_dark(colour: str) -> str:
    """The colour for a dark ground: the same hue and saturation, lightness turned over where it is below half.

    >>> _on_dark("#222222"), _on_dark("#EE6677")
    ('#dddddd', '#ee6677')
    """
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    turned = colorsys.hls_to_rgb(hue, max(lightness, 1 - lightness), saturation)
    return "#" + "".join(f"{round(255 * part):02x}" for part in turned)
