"""What is taken of a run: all that is asked for, at the end, on the way and before the first step."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlm import grammar, measured
from mlm.experiment import Measures
from mlm.grammar import Pair
from mlm.runs import RunFolder
from mlm.study import untrained_digest
from tests.mlm.places import EXPERIMENT, SCALE, done, found_study, mlm, refused, seal_sentences
from tests.mlm.test_probe import sentences

Typed = Callable[..., Any]
KEPT = 16 * 8 * 10
PAIRS = [
    Pair("number", "The class is here.", "The class are here.", "1"),
    Pair("number", "The classes are here.", "The classes is here.", "2"),
    Pair("order", "It is a type.", "It a is type.", "3"),
]
LAB = """
def depth(encoder, tokenizer, run):
    return {"layers": encoder.options.layers, "first": encoder.embedding[5, 0].item()}
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose one run keeps its weights after a quarter of its steps; with data for its measures."""
    scale, experiment = copy.deepcopy(SCALE), copy.deepcopy(EXPERIMENT)
    scale["run"]["checkpoints_at"] = [KEPT]
    experiment["seeds"] = 1
    folder = found_study(tmp_path_factory.mktemp("kept"), scale, trial=experiment)
    some = sentences(150, 1, False) + sentences(60, 2, True)
    seal_sentences(
        folder / "words.jsonl", "".join(json.dumps(s._asdict(), ensure_ascii=False) + "\n" for s in some)
    )
    rows = [
        {"text": f"{word} {n}", "label": label, "held_out": n % 4 == 0}
        for n in range(40)
        for word, label in (("The class", "A"), ("A string", "B"))
    ]
    seal_sentences(folder / "task.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    grammar.write(PAIRS, folder / "pairs.jsonl")
    (folder / "my_measuring_lab.py").write_text(LAB)
    done(mlm(folder, "train", "trial", "--scale", "test"))
    return folder


def run_of(folder: Path) -> str:
    return next((folder / "results" / "runs").glob("*/run.json")).parent.name


ASKED = {
    "evaluation": "16",
    "probe": "words.jsonl",
    "pairs": "pairs.jsonl",
    "tasks.trec": "task.jsonl",
    "finetune.trec": "{data: task.jsonl, restarts: 1, epochs: 1}",
    "reach": "[5.9, 1.0]",
    "plugins.mine": "my_measuring_lab:depth",
}


def told(*names: str, folder: str = "out") -> list[str]:
    words = [(f"{name}={folder}/{name}.json", f"{name}={ASKED[name]}") for name in names]
    return [part for take, setting in words for part in ("--take", take, "--with", setting)]


def content(folder: Path, name: str, where: str = "out") -> dict[str, Any]:
    return json.loads((folder / where / f"{name}.json").read_text())


def test_every_measure_at_once_has_the_names_that_were_planned(kept: Path, typed: Typed) -> None:
    done(typed(kept, "measure", run_of(kept), *told(*ASKED)))
    stated = Measures.model_validate(
        {"evaluation": {}, "probe": {}, "pairs": {"file": str(kept / "pairs.jsonl")}, "tasks": ["trec"],
         "finetune": {"tasks": ["trec"]}, "reach": {"loss_nats": [5.9, 1.0]}, "plugins": {"mine": "a:b"}}
    )  # fmt: skip
    run = RunFolder.open(kept / "results" / "runs" / run_of(kept))
    values: dict[str, float] = {}
    for name in ASKED:
        found = content(kept, name)
        assert (found["run"], found["measure"], found["status"]) == (run_of(kept), name, "finished")
        values |= found["values"]
    names = set(measured.names(run.config, stated)) - {"reach.1.tokens", "reach.1.flops", "mine.*"}
    assert set(values) - {"mine.layers", "mine.first"} == names
    assert values["reach.1.censored"] == 1
    assert values["mine.layers"] == 2


def test_over_training_the_kept_weights_are_measured_too(kept: Path, typed: Typed) -> None:
    words = told("pairs", "plugins.mine", "reach", folder="over")
    done(
        typed(
            kept, "measure", run_of(kept), *words, "--over-training", "pairs", "--over-training", "plugins.mine"
        )
    )
    found = content(kept, "plugins.mine", "over")
    (moment,) = found["over_training"]
    assert (moment["step"], moment["tokens"]) == (10, KEPT)
    assert moment["values"]["mine.first"] != found["values"]["mine.first"]
    assert set(moment["values"]) == set(found["values"])
    assert "over_training" not in content(kept, "reach", "over")
    by_hand = ("pairs", run_of(kept), "pairs.jsonl", "--output", "hand.json", "--at", "10")
    done(typed(kept, *by_hand))
    assert json.loads((kept / "hand.json").read_text())["step"] == 10
    (other,) = content(kept, "pairs", "over")["over_training"]
    assert json.loads((kept / "hand.json").read_text())["values"] == other["values"]


def test_the_untrained_encoder_is_measured_the_same_way(kept: Path, typed: Typed) -> None:
    digest = untrained_digest(RunFolder.open(kept / "results" / "runs" / run_of(kept)).record)
    done(typed(kept, "measure", digest, "--untrained", *told("pairs", "plugins.mine", folder="before")))
    done(typed(kept, "measure", run_of(kept), *told("plugins.mine", folder="after")))
    assert content(kept, "pairs", "before")["run"] == digest
    before, after = (
        content(kept, "plugins.mine", where)["values"]["mine.first"] for where in ("before", "after")
    )
    assert before != after


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--take: no measure is asked for"),
        (["--take", "probe"], "--take probe: expected NAME=VALUE"),
        (["--take", "prob=x.json", "--with", "prob=y"], "--take prob: no such measure; there are: evaluation"),
        (["--take", "probe=x.json"], "--with probe=…: missing"),
        (["--with", "probe=y", *told("pairs")], "--with probe: goes with --take probe="),
        ([*told("pairs"), "--over-training", "probe"], "--over-training probe: goes with --take probe="),
        ([*told("pairs"), "--at", "11"], "keeps no weights of step 11; there are: 10"),
        ([*told("pairs"), "--at", "10", "--untrained"], "--at and --untrained"),
        (["--take", "finetune.trec=x", "--with", "finetune.trec={data: task.jsonl, epoch: 1}"],
         "--with finetune.trec: epoch: unknown key"),
        (["--take", "plugins.mine=x", "--with", "plugins.mine=my_measuring_lab:dept"], "has no `dept`"),
        (["--take", "pairs=x", "--with", "pairs=nowhere.jsonl"], "nowhere.jsonl: no such file"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_refused(kept: Path, typed: Typed, words: list[str], said: str) -> None:
    assert said in refused(typed(kept, "measure", run_of(kept), *words))


def test_pairs_are_refused_before_training_if_the_vocabulary_cannot_spell_them(
    kept: Path, typed: Typed
) -> None:
    odd = [*PAIRS, Pair("number", "The 漢 is here.", "The 漢 are here.", "4")]
    grammar.write(odd, kept / "odd.jsonl")
    vocabulary = next((kept / "results/data/vocabularies").glob("*/vocabulary.model"))
    corpus = next((kept / "results/data/corpora").glob("*/corpus.json")).parent
    words = ("grammar", str(corpus), "checked.jsonl", "--vocabulary", str(vocabulary))
    said = refused(typed(kept, *words, "--file", "odd.jsonl"))
    assert "odd.jsonl, line 4: the vocabulary has no pieces for '漢'" in said
    assert not (kept / "checked.jsonl").exists()
    done(typed(kept, *words, "--file", "pairs.jsonl"))
    written = grammar.read(kept / "checked.jsonl")
    assert [pair[:3] for pair in written] == [pair[:3] for pair in PAIRS]
