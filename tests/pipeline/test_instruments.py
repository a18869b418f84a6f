"""Every instrument in one experiment, from text to report: objectives, schedules, budgets, plug-ins, measures.

The laboratory of the user's own lies outside the copy of the repository and comes by PYTHONPATH.
"""

import csv
import json
import random
import re
import runpy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mlm import config, flops, shards
from mlm.batches import Batches
from mlm.randomness import Purpose, generator, uniform
from mlm.runs import RunFolder
from tests.mlm.places import write_yaml
from tests.mlm.test_grammar import LISTED
from tests.mlm.test_hugging_face import model, wordpiece
from tests.mlm.test_plugins import EXAMPLE, write
from tests.pipeline.copies import Copy, copy_to
from tests.pipeline.test_pipeline import jobs

pytestmark = pytest.mark.long
TABLES = "results/tiny/tables/instruments"
STEP = 16 * 32
PIECES = 240
KEPT = [4, 9, 19]  # of 40 steps: 4 · 10^(k/3), rounded up

PROBES = '''
def depth(encoder, tokenizer, run):
    """How large the embedding has become."""
    return {"norm": encoder.embedding.detach().norm(), "pieces": tokenizer.size}
'''

SCALE: dict[str, Any] = {
    "experiments": ["instruments"],
    "evidence": False,
    "checkpoint_seconds": 1,
    "numerics": {"device": "cpu", "dtype": "float32", "path": "eager"},
    "wandb": {"mode": "disabled"},
    "run": {
        "corpus": "phrases",
        "vocabulary": {"kind": "unigram", "size": PIECES},
        "encoder": {"preset": "modern", "size": "tiny", "width": 32, "heads": 2},
        "sequence_length": 32,
        "batch_size": 16,
        "budget_tokens": 40 * STEP,
        "log_every_tokens": 5 * STEP,
        "optimizer": {"learning_rate": 1e-2, "warmup_tokens": 4 * STEP, "decay_tokens": 10 * STEP},
        "curve": {"every_tokens": 5 * STEP, "sequences": 32},
        "checkpoints_at": {"first": 4 * STEP, "number": 4},
    },
    "measures": {
        "evaluation": {"sequences": 32},
        "probe": {"train_sentences": 100, "test_sentences": 50},
        "pairs": {"per_kind": 20},
        "tasks": ["trec", "sentiment"],
        "finetune": {"tasks": ["trec"], "restarts": 1, "epochs": 2},
        "reach": {"loss_nats": [5.4, 1.0]},
        "plugins": {"depth": "my_lab.probes:depth"},
        "over_training": ["probe", "pairs", "plugins"],
    },
}
EXPERIMENT: dict[str, Any] = {
    "title": "Every instrument at once",
    "question": "Do they play together?",
    "claim": "They do.",
    "reference": "none",
    "cost": "seconds",
    "baseline": "mlm",
    "arms": {
        "mlm": {},
        "causal": {"objective": "causal"},
        "pairs": {"objective": "mlm+nsp"},
        "matched": {
            "match": "flops",
            "encoder": {"width": 48},
            "lengths": {"shape": "staged", "values": [8, 16, 32]},
        },
        "stripes": {
            "masking": {"rate": 0.2, "split": {"mask": 1}, "strategy": "my_lab.masking:Diagonal"},
            "attention": {"window": {"shape": "linear", "values": [8, 32]}},
            "micro_batch": 4,
        },
        "continued": {"masking": {"unit": "word"}},  # and init_from, where that lies
    },
    "seeds": 1,
    "primary_measure": "probe.accuracy",
    "contrasts": {
        "primary": {"arm": "stripes", "expect": "differ"},
        "secondary": [
            {"arm": "causal", "measure": "depth.norm"},
            {"arm": "pairs", "measure": "pairs.accuracy"},
            {"arm": "matched", "measure": "reach.5.4.flops"},
            {"arm": "continued", "measure": "finetune.trec.accuracy"},
        ],
        "equivalence": [{"arm": "stripes", "measure": "trec.accuracy", "margin": 0.1}],
    },
}


class Place(NamedTuple):
    """The finished pipeline, and the laboratory that it imports."""

    copy: Copy
    lab: Path
    bert: Path

    def table(self, name: str) -> list[dict[str, str]]:
        with (self.copy.folder / TABLES / name).open() as stream:
            return list(csv.DictReader(stream))

    def values(self, arm: str) -> dict[str, float]:
        """Measure -> value, of an arm's one run in results.csv."""
        rows = [row for row in self.table("results.csv") if row["arm"] == arm]
        return {row["measure"]: float(row["value"]) for row in rows}

    def digest(self, arm: str) -> str:
        index = json.loads((self.copy.folder / "results/tiny/study.json").read_text())["index"]
        mine = (cell for cell in index if cell["experiment"] == "instruments")
        return next(cell["digest"] for cell in mine if cell["arm"] == arm)

    def run(self, arm: str) -> RunFolder:
        """In the copy's folder, where the test must be."""
        return RunFolder.open(Path("results/runs") / self.digest(arm))


def write_texts(folder: Path) -> None:
    """A corpus of the grammar's words, and sentence tasks in both formats: nothing is fetched but Brown."""
    draws = random.Random(0)
    for document in range(12):
        lines = (" ".join(draws.choices(LISTED, k=9)) for _ in range(100))
        write(folder / "text" / f"{document}.txt", "".join(f"{line}.\n" for line in lines))
    corpus = {"title": "Phrases", "licence": "none", "source": {"kind": "files", "paths": ["text/*.txt"]},
              "split": {"validation": ["0", "1"], "test": ["2", "3"]}, "prompts": ["The king"]}  # fmt: skip
    write_yaml(folder / "experiments" / "corpora" / "phrases.yaml", corpus)
    rows = [(" ".join(draws.choices(LISTED, k=6)), draws.choice(["HUM", "LOC", "NUM"])) for _ in range(120)]
    write(folder / "questions.txt", "".join(f"{label}:detail {text} ?\n" for text, label in rows))
    scored = [f"{n}\t{1 if label == 'HUM' else -1}\t{text}\n" for n, (text, label) in enumerate(rows)]
    write(folder / "reviews.txt", "id\tsentiment\ttext\n" + "".join(scored))
    for name, form, file in (("trec", "labelled", "questions.txt"), ("sentiment", "scored", "reviews.txt")):
        source = {"kind": "files", "paths": [file]}
        told = {"title": name, "licence": "none", "format": form, "source": source, "held_out": 0.2}
        write_yaml(folder / "experiments" / "probes" / f"{name}.yaml", told)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("instruments")
    lab, bert = folder / "lab", wordpiece(folder / "bert")
    model(bert)
    for name, text in (("__init__", ""), ("masking", EXAMPLE), ("probes", PROBES)):
        write(lab / "my_lab" / f"{name}.py", text)
    copy = Copy(copy_to(folder / "copy").folder, "tiny", {"PYTHONPATH": str(lab)})
    write_texts(copy.folder)
    write_yaml(copy.folder / "experiments" / "scales" / "tiny.yaml", SCALE)
    arms = EXPERIMENT["arms"] | {"continued": {**EXPERIMENT["arms"]["continued"], "init_from": str(bert)}}
    write_yaml(copy.folder / "experiments" / "instruments.yaml", EXPERIMENT | {"arms": arms})
    for name in ("split", "split-12m"):
        (copy.folder / "experiments" / f"{name}.yaml").unlink()
    copy.snakemake("instruments")  # all but the paper, which tells of `split`
    return Place(copy, lab, bert)


@pytest.fixture
def here(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(place.copy.folder)
    return place


def test_the_strategy_by_path_selected_what_the_table_says(here: Place) -> None:
    run = here.run("stripes")  # neither its growing window nor its micro-batches move a mask
    tokens = shards.read(run.shards, run.vocabulary)["train"].tokens
    batches = Batches(tokens, run.config.seed, run.config.batch_size, run.config.sequence_length)
    corrupt = runpy.run_path(str(here.lab / "my_lab" / "masking.py"))["Diagonal"]()
    selected = eligible = 0
    for step in range(run.config.steps):
        rows, draws = batches(step), uniform(generator(run.config.seed, Purpose.MASKING, step))
        made = corrupt(rows, run.config.masking, draws, n_tokens=PIECES, begins_word=None, step=step)
        selected += int(made.selected.sum())
        eligible += int((rows >= config.N_SPECIAL).sum())
    found = here.values("stripes")
    assert (found["realised.selected"], found["realised.eligible"]) == (selected, eligible)
    assert found["realised.mask"] == selected


def test_objectives_and_schedules_count_what_they_say(place: Place) -> None:
    mlm, causal, pairs = (place.values(arm) for arm in ("mlm", "causal", "pairs"))
    assert mlm["realised.selected"] / mlm["realised.eligible"] == pytest.approx(0.15, abs=0.005)
    assert causal["realised.selected"] == causal["realised.eligible"] == mlm["realised.eligible"]
    assert causal["realised.same"] == causal["realised.selected"]
    assert pairs["realised.eligible"] < mlm["realised.eligible"]  # [CLS], [SEP] and padding
    relation = "test.own.relation.accuracy"
    assert relation in pairs and relation not in mlm
    assert (place.values("continued")["depth.pieces"], mlm["depth.pieces"]) == (500, PIECES)


def test_matched_operations_differ_by_less_than_one_step(here: Place) -> None:
    baseline, matched = here.values("mlm"), here.values("matched")
    encoder, steps = here.run("matched").config.encoder, int(matched["training.steps"])
    thirds = [3 * step // (steps - 1) for step in range(steps)]
    lengths = [(8, 16, 32, 32)[third] for third in thirds]
    costs = [flops.of_token(encoder, PIECES, length) * STEP for length in lengths]
    assert matched["training.flops"] == sum(costs)
    assert 0 <= baseline["training.flops"] - sum(costs) < costs[-1]
    assert steps < baseline["training.steps"]


def test_measures_over_training_stand_at_exactly_the_kept_steps(here: Place) -> None:
    curves, names = here.table("curves.csv"), ("probe.accuracy", "pairs.accuracy", "depth.norm")
    for arm in EXPERIMENT["arms"]:
        values = here.values(arm)
        steps = here.run(arm).config.steps
        ratio = steps / 4
        wanted = [-(-round(4 * STEP * ratio ** (k / 3)) // STEP) for k in range(4)]
        assert wanted[-1] == steps and (wanted[:-1] == KEPT or arm == "matched")
        for name in names:
            rows = [row for row in curves if (row["arm"], row["measure"]) == (arm, name)]
            assert [int(row["tokens"]) for row in rows] == [step * STEP for step in wanted]
            assert float(rows[-1]["value"]) == values[name]
    assert not [row for row in curves if row["measure"] == "trec.accuracy"]


def test_the_probe_by_path_gives_what_it_gives_by_hand(here: Place) -> None:
    depth = runpy.run_path(str(here.lab / "my_lab" / "probes.py"))["depth"]
    for arm in ("mlm", "stripes", "continued"):
        run = here.run(arm)
        rows = [r for r in here.table("curves.csv") if (r["arm"], r["measure"]) == (arm, "depth.norm")]
        for row, step in zip(rows, [*KEPT, None], strict=True):
            told = depth(run.encoder(step=step), run.tokenizer(), run.config)
            assert float(row["value"]) == pytest.approx(float(told["norm"]), rel=1e-6)
    theirs = load_file(here.bert / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    begun = here.values("continued")["untrained.depth.norm"]
    assert begun == pytest.approx(float(torch.linalg.norm(theirs)), rel=1e-5)


def test_reach_lies_on_the_held_out_curve_and_before_the_decay(place: Place) -> None:
    curves, reached = place.table("curves.csv"), 0
    for arm in EXPERIMENT["arms"]:
        values = place.values(arm)
        assert values["reach.1.censored"] == 1 and "reach.1.tokens" not in values
        rows = [r for r in curves if (r["arm"], r["measure"]) == (arm, "validation.yardstick.loss_nats")]
        x, y = ([float(row[key]) for row in rows] for key in ("tokens", "value"))
        if not values["reach.5.4.censored"] and y[0] > 5.4:
            assert np.interp(values["reach.5.4.tokens"], x, y) == pytest.approx(5.4)
            assert values["reach.5.4.tokens"] <= 0.75 * values["training.tokens"]
            reached += 1
    assert reached


def test_every_measure_of_every_arm_is_in_the_table(place: Place) -> None:
    names = ["probe.accuracy", "pairs.accuracy", "trec.accuracy", "sentiment.layer_2.accuracy"]
    names += ["finetune.trec.accuracy", "test.yardstick.loss_nats", "depth.norm", "untrained.depth.norm"]
    for arm in EXPERIMENT["arms"]:
        assert set(names) <= place.values(arm).keys()


def edited(path: Path, before: str, after: str) -> str:
    """Write the change; returns what stood there."""
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    return text


def test_what_an_edit_in_the_laboratory_makes_anew(here: Place) -> None:
    strategy, probe = (here.lab / "my_lab" / name for name in ("masking.py", "probes.py"))
    others = [here.digest(arm) for arm in EXPERIMENT["arms"] if arm != "stripes"]
    assert "Nothing to be done" in here.copy.snakemake("instruments")
    edit(strategy, "Selects stripes", "Takes stripes")
    edit(probe, "has become", "is now")
    assert "Nothing to be done" in here.copy.snakemake("instruments", "--dry-run")

    before, written = here.values("stripes"), trained(here)
    edit(strategy, "max(1, round(", "1 + max(1, round(")
    planned = jobs(here.copy.snakemake(f"{TABLES}/results.csv"))
    assert planned == {"train": 1, "measure": 1, "collect": 1, "total": 3}
    realised = here.values("stripes")["realised.selected"] / before["realised.selected"]
    assert realised == pytest.approx(5 / 6, rel=0.01)  # each sixth stripe, not each fifth
    assert [here.digest(arm) for arm in EXPERIMENT["arms"] if arm != "stripes"] == others
    assert trained(here).items() > written.items() and len(trained(here)) == len(written) + 1

    edit(probe, ".norm()", ".norm() * 2")
    said = here.copy.snakemake("instruments", "--dry-run", "--quiet", "host")
    planned = jobs(said)
    assert (planned["train"], planned["measure"]) == (0, len(EXPERIMENT["arms"]))
    norm, written = here.values("mlm")["depth.norm"], trained(here)
    file = re.search(rf"results/runs/{here.digest('mlm')}/plugins\.depth-\w+\.json", said)
    assert file
    here.copy.snakemake(file[0])
    assert trained(here) == written
    assert json.loads(Path(file[0]).read_text())["values"]["depth.norm"] == pytest.approx(2 * norm)


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def trained(place: Place) -> dict[str, int]:
    """Weights -> when they were written."""
    files = (place.copy.folder / "results" / "runs").glob("*/weights.safetensors")
    return {file.parent.name: file.stat().st_mtime_ns for file in files}
