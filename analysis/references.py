"""What stands beside the arms: values that need no training, and what training began with and took.

A value that all arms share stands once; where arms differ, each has its own.
"""

from analysis import summary, tidy


def fixed(collected: tidy.Collected, name: str) -> dict[str, float]:
    """A reference or count by arm, which is one for all runs of an arm; under "" where it is for all arms."""
    r = collected.results
    rows = r[(r["measure"] == name) & r["value"].notna()]
    by_arm = {str(arm): values.unique() for arm, values in rows.groupby("arm", sort=False)["value"]}
    found = {arm: float(values[0]) for arm, values in by_arm.items() if len(values) == 1}
    return {"": next(iter(found.values()))} if len(set(found.values())) == 1 else found


def untrained(collected: tidy.Collected, measure: str) -> dict[str, summary.Estimate]:
    """A measure of the encoders before their first step, by arm; under "" where all arms begin alike.

    Args:
        measure: `untrained.probe.accuracy` or the like.
    """
    r = collected.results
    begun = r[r["measure"].str.startswith("untrained.")]
    alike = bool((begun.groupby("seed")["run"].nunique() == 1).all())
    rows = r[(r["measure"] == measure) & r["value"].notna()]
    parts = {"": rows.drop_duplicates("run")} if alike else dict(list(rows.groupby("arm", sort=False)))
    found = {str(arm): summary.estimate(part["value"].to_numpy(dtype=float)) for arm, part in parts.items()}
    return {arm: estimate for arm, estimate in found.items() if estimate is not None}


def training(collected: tidy.Collected, measure: str) -> dict[str, int]:
    """What a finished run took, `training.tokens` or the like, by arm; under "" where all took the same."""
    r = collected.results
    rows = r[(r["measure"] == measure) & (r["status"] == "finished")]
    by_arm = {str(arm): int(values.iloc[0]) for arm, values in rows.groupby("arm", sort=False)["value"]}
    return {"": next(iter(by_arm.values()))} if len(set(by_arm.values())) == 1 else by_arm
