"""What the files under experiments/ promise to those who read them, before anything is trained."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from mlm.planner import load_study
from mlm.study import Study

ROOT = Path(__file__).parents[1]
FILES = {path.stem: path for path in sorted((ROOT / "experiments").glob("*.yaml"))}

SHARED = (
    {("split", "80-10-10"), ("bugs", "80-10-10"), ("positions", "rotary-norm"), ("rate", "15"),
     ("schedules", "constant-15"), ("selection", "token-15"), ("vocabularies", "unigram-2048")},
    {("split", "81-9-10"), ("bugs", "81-9-10")},
    {("split", "100-0-0"), ("rate", "masks-15")},
    {("rate", "30"), ("schedules", "constant-30")},
    {("bugs", "no-cap"), ("rate", "40"), ("selection", "token-40")},
    *({("credit", f"{one}-{sight}"), ("credit-rates", f"{one}-{sight}")}
      for one in ("mlm", "causal") for sight in (16, 64, 256)),
)  # fmt: skip
"""(experiment, arm) that ask for the same training."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterable[Study]:
    """All experiments at laptop scale, planned where nothing was run yet."""
    place = tmp_path_factory.mktemp("plan")
    (place / "experiments").symlink_to(ROOT / "experiments")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        yield load_study("laptop")


def seeds(study: Study, name: str) -> int:
    return len({cell.seed for cell in study.cells if cell.experiment == name})


def test_arms_that_ask_for_the_same_training_share_their_runs_and_no_others_do(study: Study) -> None:
    arms: dict[frozenset[str], set[tuple[str, str]]] = {}
    digests: dict[tuple[str, str], set[str]] = {}
    for cell in study.cells:
        digests.setdefault((cell.experiment, cell.arm), set()).add(cell.digest)
    for arm, runs in digests.items():
        arms.setdefault(frozenset(runs), set()).add(arm)
    shared = [together for together in arms.values() if len(together) > 1]
    assert sorted(map(sorted, shared)) == sorted(map(sorted, SHARED))
    assert len(set().union(*arms)) == sum(map(len, arms)), "no run is of two sets of seeds"


def test_every_contrast_can_reach_its_level_with_the_seeds_there_are(study: Study) -> None:
    for name in FILES:
        tests = max(len(study.experiments[name].contrasts.secondary), 1)
        assert tests * 2 / 2 ** seeds(study, name) < 0.05, name


def test_the_first_line_of_each_file_says_how_it_is_run_and_how_many_runs_that_is(study: Study) -> None:
    for name, path in FILES.items():
        first = path.read_text().splitlines()[0]
        arms, n = len(study.experiments[name].arms), seeds(study, name)
        size = f"{arms} arms × {n} seeds = {arms * n} runs"
        assert re.match(rf"# snakemake --cores all {name} +\(laptop scale: {size}", first), first


def test_a_file_says_alone_how_its_arms_are_compared_and_what_its_measures_are(study: Study) -> None:
    """A registered report; one that `extends` another leaves that to it."""
    told = {
        "probe": "Brown corpus",
        "test": "all shown as [MASK]",
        "reach": "token frequencies",
        "bits": "bytes",
    }
    for name, path in FILES.items():
        head = path.read_text().partition("\n\n")[0]
        if "\nextends:" in path.read_text():
            assert "are described there" in " ".join(head.split()), name
            continue
        for words in ("sign-flip test", "level .05", "Holm's correction"):
            assert words in head.replace("\n# ", " "), (name, words)
        of = study.experiments[name].primary_measure.split(".")[0]
        assert told[of] in path.read_text().replace("\n# ", " "), name


def test_a_file_whose_text_and_size_are_the_scales_says_what_they_are_at_laptop_scale(study: Study) -> None:
    """Who reads it alone sees what its runs are; the values themselves stand in the scale's file once."""
    told = (
        r"At `laptop`: a `modern` encoder \([^)]+\) of two layers of width (\d+), ([\d,]+) unigram pieces of "
        r"Shakespeare, (\d+) sequences of (\d+) tokens a step, learning rates? ([^,]+), ([\d.]+) M tokens a run"
    )
    for name, path in FILES.items():
        if "corpus" in study.experiments[name].base:
            continue
        found = re.search(told, path.read_text().replace("\n# ", " "))
        assert found, name
        width, pieces, batch, length, rates, millions = found.groups()
        runs = [study.runs[cell.digest].config for cell in study.cells if cell.experiment == name]
        for run in runs:
            assert (run.corpus, run.vocabulary.kind, run.encoder.layers) == ("shakespeare", "unigram", 2), name
            assert (run.encoder.width, run.vocabulary.size) == (int(width), int(pieces.replace(",", ""))), name
            assert (run.batch_size, run.sequence_length) == (int(batch), int(length)), name
            assert f"{run.budget_tokens / 1e6:.1f}" == millions, name
        assert {*map(float, rates.split(" and "))} == {run.optimizer.learning_rate for run in runs}, name
