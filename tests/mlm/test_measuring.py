"""What is taken of a run: all that is asked for, at the end, on the way and before the first step."""

import copy
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import yaml

from mlm import costs, grammar, identity, measured, measuring, runs
from mlm.experiment import Measures
from mlm.files import file_sha256, write_json
from mlm.grammar import Pair
from mlm.runs import RunFolder
from mlm.study import untrained_digest
from tests.mlm.places import (
    EXPERIMENT,
    SCALE,
    copy_of,
    done,
    found_study,
    loaded,
    mlm,
    refused,
    seal_sentences,
)
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
    "reach": "{loss_nats: [5.9, 1.0], below_unigram_nats: [0.1]}",
    "corruptions": "{sequences: 16, arms: {80-10-10: {}, rate.4: {rate: .4, split: {mask: 1}}}}",
    "radius": "{distances: [1, 8], sequences: 16}",
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
         "finetune": {"tasks": ["trec"]}, "plugins": {"mine": "a:b"},
         **{name: yaml.safe_load(ASKED[name]) for name in ("reach", "corruptions", "radius")}}
    )  # fmt: skip
    run = RunFolder.open(kept / "results" / "runs" / run_of(kept))
    values: dict[str, float] = {}
    for name in ASKED:
        found = content(kept, name)
        assert (found["run"], found["measure"], found["status"]) == (run_of(kept), name, "finished")
        values |= found["values"]
    kinds = [pair.kind for pair in PAIRS]
    unreached = [name for name in ("reach.1", "reach.unigram-0.1") if values[f"{name}.censored"]]
    missing = {f"{name}.{what}" for name in unreached for what in ("tokens", "flops")}
    names = set(measured.names(run.config, stated, kinds)) - {*missing, "mine.*"}
    assert set(values) - {"mine.layers", "mine.first"} == names
    assert "reach.1" in unreached and values["reach.unigram-0.1.observed_tokens"] > 0
    assert values["mine.layers"] == 2


HAND_ON = {
    *("mlm.files", "mlm.runs", "mlm.shards", "mlm.metrics", "mlm.grammar", "mlm.yaml_file", "mlm.progress"),
    *("mlm.config", "mlm.config_masking", "mlm.experiment", "mlm.fields", "mlm.plugins", "mlm.identity"),
    *("mlm.measures", "mlm.measured", "mlm.measuring"),
}
"""Modules that measures go through and that decide no number: they read files, check settings, give names."""


def test_the_code_that_a_measure_goes_through_is_in_the_name_of_its_file(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(kept)
    run = RunFolder.open(kept / "results" / "runs" / run_of(kept))
    encoder = run.encoder()
    lacking = {}
    for name, setting in ASKED.items():
        kind, seen = measured.kind(name), set()

        def note(frame: FrameType, event: str, _: Any, seen: set[str] = seen) -> None:
            if event == "call":
                seen.add(frame.f_globals.get("__name__", ""))

        sys.setprofile(note)
        try:
            measuring.TAKEN_BY[kind](run, encoder, measuring.Wanted(name, yaml.safe_load(setting)))
        finally:
            sys.setprofile(None)
        ours = {module for module in seen if module.startswith("mlm.")}
        assert len(ours & {*measured.CODE[kind]}) > 0 or kind == "plugins"
        lacking[kind] = sorted(ours - {*measured.CODE[kind], *HAND_ON})
    assert not any(lacking.values()), lacking


def test_over_training_the_kept_weights_are_measured_too(kept: Path, typed: Typed) -> None:
    words = told("pairs", "probe", "plugins.mine", "reach", "radius", folder="over")
    asked = ("pairs", "probe", "plugins.mine", "radius")
    over = [word for name in asked for word in ("--over-training", name)]
    done(typed(kept, "measure", run_of(kept), *words, *over))
    found = content(kept, "plugins.mine", "over")
    (moment,) = found["over_training"]
    assert (moment["step"], moment["tokens"]) == (10, KEPT)
    assert moment["values"]["mine.first"] != found["values"]["mine.first"]
    assert set(moment["values"]) == set(found["values"])
    assert "over_training" not in content(kept, "reach", "over")
    far = content(kept, "radius", "over")
    (earlier,) = far["over_training"]
    assert set(earlier["values"]) == set(far["values"]) and earlier["values"] != far["values"]
    by_hand = ("pairs", run_of(kept), "pairs.jsonl", "--output", "hand.json", "--at", "10")
    done(typed(kept, *by_hand))
    hand, whole = json.loads((kept / "hand.json").read_text()), content(kept, "pairs", "over")
    (other,) = whole["over_training"]
    assert (hand["step"], hand["values"]) == (10, other["values"])
    assert hand["data"] == whole["data"] == {"pairs.jsonl": file_sha256(kept / "pairs.jsonl")}
    # Reading each layer takes as long as all together, and is of interest at the end alone.
    done(typed(kept, "probe", run_of(kept), "words.jsonl", "--output", "hand.json", "--at", "10"))
    hand, whole = json.loads((kept / "hand.json").read_text()), content(kept, "probe", "over")
    together = {"probe.accuracy", "probe.ambiguous_accuracy"}
    assert whole["over_training"][0]["values"] == {name: hand["values"][name] for name in together}
    assert {"probe.layer_0.accuracy", *together} < set(whole["values"])


def test_experiments_that_share_a_run_may_measure_it_differently(kept: Path, typed: Typed) -> None:
    """Each under every corruption of its own arms, say; each command takes what is planned."""
    stated = [
        {"corruptions": {"arms": {arm: {"rate": rate}}, "sequences": 16},
         "radius": {"distances": [distance], "sequences": 16}, "over_training": over}
        for arm, rate, distance, over in (("low", 0.1, 1, ["radius"]), ("high", 0.4, 8, []))
    ]  # fmt: skip
    planned = [measured.of(Measures.model_validate(one), "here") for one in stated]
    for measures in planned:
        words = " ".join(one.words("shared", "v") for one in measures)
        done(typed(kept, "measure", run_of(kept), "--keep", *shlex.split(words)))
    for measures, told in zip(planned, stated, strict=True):
        run = RunFolder.open(kept / "results" / "runs" / run_of(kept))
        names = measured.names(run.config, Measures.model_validate(told), ())
        found = {one.name: content(kept, Path(one.file).stem, "shared") for one in measures}
        assert [name for one in found.values() for name in one["values"]] == names
        assert all(one["measure"] == name for name, one in found.items())
        assert [name for name, one in found.items() if "over_training" in one] == told["over_training"]


def test_the_untrained_encoder_is_measured_the_same_way(kept: Path, typed: Typed) -> None:
    digest = untrained_digest(RunFolder.open(kept / "results" / "runs" / run_of(kept)).record)
    done(typed(kept, "measure", digest, "--untrained", *told("pairs", "plugins.mine", folder="before")))
    done(typed(kept, "measure", run_of(kept), *told("plugins.mine", folder="after")))
    assert content(kept, "pairs", "before")["run"] == digest
    before, after = (
        content(kept, "plugins.mine", where)["values"]["mine.first"] for where in ("before", "after")
    )
    assert before != after


def test_an_untrained_encoder_is_taken_of_a_run_that_is_asked_for_and_has_its_data(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of(kept, tmp_path / "copy")
    monkeypatch.chdir(folder)
    wanted = RunFolder.open(Path("results/runs") / run_of(kept))
    digest = untrained_digest(wanted.record)
    for number in range(4):  # of an arm that was edited since, and of a study whose data are gone
        record = copy.deepcopy(wanted.record)
        record["training"]["masking"]["rate"] = (number + 1) / 10
        if number % 2:
            record["data"]["shards"] = "gone"
        assert untrained_digest(record) == digest
        stale = Path("results/runs") / identity.digest(record)
        write_json(stale / "config.json", record)
        if number % 2:
            write_json(stale / "labels.json", [["a", "a", "a", 0]])
    assert runs.of_untrained(digest).path.name == wanted.path.name
    assert len(runs.everything()) >= 5


def test_a_fine_tuning_that_diverged_has_no_value_and_says_so(kept: Path, typed: Typed) -> None:
    how = "{data: task.jsonl, restarts: 1, epochs: 2, learning_rate: 1.0e+30}"
    take = ("--take", "finetune.trec=diverged.json", "--with", f"finetune.trec={how}")
    done(typed(kept, "measure", run_of(kept), *take))
    found = json.loads((kept / "diverged.json").read_text())
    assert (found["status"], found["values"], found["counts"]["diverged"]) == ("finished", {}, 1)
    assert found["references"]


def untimed(text: str) -> str:
    """A measure's file but for the seconds that it took."""
    return re.sub(r'"wall_seconds": [\d.e-]+', "", text)


def test_what_was_taken_of_the_same_weights_is_kept(kept: Path, typed: Typed) -> None:
    """For the pipeline, where another measure is added; by hand, what is asked for is measured."""
    asked = ("measure", run_of(kept), *told("reach", "plugins.mine", folder="keep"))
    over = ("--over-training", "plugins.mine")
    done(typed(kept, *asked, *over))
    files = [kept / "keep" / f"{name}.json" for name in ("reach", "plugins.mine")]
    whole = [file.read_text() for file in files]

    def touched(*words: str) -> list[str]:
        """The measures that a command takes, with a mark in each of the files before it."""
        marked = [text.replace('"values": {', '"values": {\n    "mark": 0,', 1) for text in whole]
        for file, text in zip(files, marked, strict=True):
            file.write_text(text)
        done(typed(kept, *words))
        assert all(untimed(file.read_text()) in map(untimed, (*whole, *marked)) for file in files)
        return [file.stem for file in files if "mark" not in file.read_text()]

    assert touched(*asked, *over, "--keep") == []
    assert touched(*asked, *over) == ["reach", "plugins.mine"]
    record = kept / "results" / "runs" / run_of(kept) / "run.json"
    before = record.read_text()
    record.write_text(before + " ")  # other weights have another one
    done(typed(kept, *asked, *over, "--keep"))
    assert [untimed(f.read_text()) == untimed(text) for f, text in zip(files, whole, strict=True)] == [
        False,
        False,
    ]
    record.write_text(before)
    done(typed(kept, *asked, *over, "--keep"))
    assert [untimed(file.read_text()) for file in files] == [untimed(text) for text in whole]
    done(typed(kept, *asked, "--keep"))
    assert "over_training" not in json.loads(files[1].read_text())
    files[0].write_text("{")
    done(typed(kept, *asked, "--keep"))
    assert untimed(files[0].read_text()) == untimed(whole[0])


def test_a_run_is_measured_by_the_process_that_trains_it(kept: Path, tmp_path: Path) -> None:
    """The same numbers as by one of its own, which finds them; what cannot be taken is told, and left to it."""
    place = copy_of(kept, tmp_path / "copy")
    for name in ("words.jsonl", "task.jsonl", "pairs.jsonl", "my_measuring_lab.py"):
        shutil.copy(kept / name, place)
    run = place / "results" / "runs" / run_of(kept)
    for path in run.iterdir():
        if path.name not in ("config.json", "labels.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    asked = [name for name in ASKED if name != "finetune.trec"]
    stated = {
        f"{name}.json": {
            "name": name,
            "setting": yaml.safe_load(ASKED[name]),
            "over_training": name == "radius",
        }
        for name in asked
    }
    broken = {"name": "plugins.mine", "setting": "my_measuring_lab:dept", "over_training": False}
    mine = {"vocabulary": "own", "files": ["broken.json", *stated]}
    write_json(
        place / "measures.json",
        {"measures": {"own": {"broken.json": broken, **stated}}, "runs": {run.name: mine}},
    )
    train = ("train", run.name, "--then-measure", "measures.json")
    said = done(mlm(place, *train))
    assert f"note: {RunFolder.open(run).name}: plugins.mine is not taken yet: InputError: " in said
    assert "has no `dept`" in said and (run / "trained").exists()

    over = ("--over-training", "radius")
    done(mlm(place, "measure", run.name, *told(*asked, folder="apart"), *over))
    before = {name: (run / "aside" / f"{name}.json").read_text() for name in asked}
    done(mlm(place, "measure", run.name, *told(*asked, folder=str(run)), *over, "--keep"))
    for name in asked:
        assert (run / f"{name}.json").read_text() == before[name], "what was laid aside is put in its place"
        assert untimed(before[name]) == untimed((place / "apart" / f"{name}.json").read_text())
    assert not list((run / "aside").iterdir())

    (run / "trained").unlink()  # as Snakemake does where a job was killed while it measured
    done(mlm(place, *train))
    assert (run / "trained").exists() and not list((run / "aside").iterdir())


def test_no_other_code_than_was_planned_takes_a_measure(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: Typed
) -> None:
    """Neither where its source changed before nor where it does while it is taken."""
    monkeypatch.setattr(identity, "PACKAGE", shutil.copytree(identity.PACKAGE, tmp_path / "mlm"))
    identity.forget()
    source = identity.PACKAGE / "reach.py"
    before, output = source.read_text(), kept / "planned" / "reach.json"
    code = identity.digest(measured.code("reach", yaml.safe_load(ASKED["reach"])))
    words = ("measure", run_of(kept), *told("reach", folder="planned"), "--planned", f"reach={code}")
    source.write_text(before + "\nOTHER = 1\n")
    said = refused(typed(kept, *words))
    assert "planned/reach.json: the source of what takes `reach` changed since it was planned" in said
    source.write_text(before)
    take = measuring.TAKEN_BY["reach"]

    def meanwhile(*given: Any) -> dict[str, Any]:
        source.write_text(before + "\nOTHER = 1\n")
        return take(*given)

    with monkeypatch.context() as patch:
        patch.setitem(measuring.TAKEN_BY, "reach", meanwhile)
        refused(typed(kept, *words))
    assert not output.exists()
    source.write_text(before)
    done(typed(kept, *words))
    assert output.exists()
    monkeypatch.undo()
    identity.forget()


def test_what_is_taken_already_is_found_without_torch(kept: Path, typed: Typed) -> None:
    words = ["measure", run_of(kept), *told("reach", "pairs", folder="light"), "--keep"]
    done(typed(kept, *words))
    found = loaded(kept, *words)
    assert "mlm.measuring" in found and "torch" not in found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--take: no measure is asked for"),
        (["--take", "probe"], "--take probe: expected NAME=VALUE"),
        (["--take", "prob=x.json", "--with", "prob=y"], "--take prob: no such measure; there are: evaluation"),
        (["--take", "probe=x.json"], "--with probe=…: missing"),
        ([*told("pairs"), *told("pairs", folder="other")], "--take pairs: is asked for twice"),
        (["--with", "probe=y", *told("pairs")], "--with probe: goes with --take probe="),
        ([*told("pairs"), "--over-training", "probe"], "--over-training probe: goes with --take probe="),
        ([*told("pairs"), "--at", "11"], "keeps no weights of step 11; there are: 10"),
        ([*told("pairs"), "--at", "10", "--untrained"], "--at and --untrained"),
        (["--take", "finetune.trec=x.json", "--with", "finetune.trec={data: task.jsonl, epoch: 1}"],
         "--with finetune.trec: epoch: unknown key"),
        (["--take", "reach=x.json", "--with", "reach={}"], "--with reach: no loss is given; give `loss_nats`"),
        (["--take", "radius=x.json", "--with", "radius={distance: [4]}"],
         "--with radius: distance: unknown key; did you mean `distances`"),
        (["--take", "corruptions=x.json", "--with", "corruptions={arms: {a: {rat: .1}}}"],
         "--with corruptions: arms.a.rat: unknown key"),
        (["--take", "plugins.mine=x.json", "--with", "plugins.mine=my_measuring_lab:dept"], "has no `dept`"),
        (["--take", "pairs=x.json", "--with", "pairs=nowhere.jsonl"], "nowhere.jsonl: no such file"),
        (["--take", "evaluation=README.md", "--with", "evaluation=4"],
         "README.md: is to be written, and does not end in .json; name another file"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_refused(kept: Path, typed: Typed, words: list[str], said: str) -> None:
    assert said in refused(typed(kept, "measure", run_of(kept), *words))


@pytest.mark.parametrize(
    ("name", "setting", "said"),
    [
        ("evaluation", "-5", "sequences: is -5; should be greater than or equal to 1"),
        ("evaluation", "0", "sequences: is 0; should be greater than or equal to 1"),
        ("evaluation", "1.9", "sequences: is 1.9 (a number (float)); should be a valid integer"),
        ("evaluation", "abc", "sequences: is 'abc' (text); should be a valid integer"),
        ("evaluation", "{a: 1}", "sequences: is {'a': 1} (a mapping); should be a valid integer"),
        ("evaluation", "[1]", "sequences: is [1] (a list); should be a valid integer"),
        ("probe", "5", "is 5; give the path of a file"),
        ("probe", "[a]", "is ['a']; give the path of a file"),
        ("probe", "{data: x}", "is {'data': 'x'}; give the path of a file"),
        ("pairs", "5", "is 5; give the path of a file"),
        ("tasks.trec", "5", "is 5; give the path of a file"),
        ("finetune.trec", "{restarts: 2}", "data: is None; give the path of a file"),
        ("finetune.trec", "3", "data: is 3; give the path of a file"),
        ("finetune.trec", "[1, 2]", "data: is [1, 2]; give the path of a file"),
        ("plugins.x", "5", "is 5; give the Python path of a probe, `module.of.yours:name`"),
    ],
)
def test_what_a_measure_cannot_be_told_is_refused_by_its_name(
    kept: Path, typed: Typed, name: str, setting: str, said: str
) -> None:
    words = ("--take", f"{name}=x.json", "--with", f"{name}={setting}")
    assert refused(typed(kept, "measure", run_of(kept), *words)) == f"error: --with {name}: {said}\n"


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


def test_every_kind_of_measure_has_its_code_its_time_and_who_takes_it() -> None:
    kinds = Measures.model_fields.keys() - {"over_training"}
    assert kinds == measured.CODE.keys() == measuring.TAKEN_BY.keys() == costs.MEASURE_SECONDS.keys()
