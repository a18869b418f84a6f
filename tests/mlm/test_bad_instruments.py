"""What cannot be measured or trained is refused as a person meets it: exit code 2, file, key and remedy."""

import copy
import io
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlm.files import file_sha256
from mlm.grammar import FUNCTION_WORDS, LISTS
from tests.mlm.places import EXPERIMENT, SCALE, found_study, refused, setting, write_yaml
from tests.mlm.test_grammar import corpus_of, text_of

Typed = Callable[..., Any]
TRIAL, SCALE_FILE = "experiments/trial.yaml", "experiments/scales/test.yaml"

LAB = """
def over(progress):
    return 2 * progress

def pick(tokens, rate):
    return tokens
"""


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Path]:
    """Write the small study with one key of its experiment or scale changed."""

    def write(scale: Callable[..., None] | None = None, experiment: Callable[..., None] | None = None) -> Path:
        contents = copy.deepcopy(SCALE), copy.deepcopy(EXPERIMENT)
        for content, change in zip(contents, (scale, experiment), strict=True):
            if change:
                change(content)
        (tmp_path / "lab_of_bad_input.py").write_text(LAB)
        return found_study(tmp_path, contents[0], trial=contents[1])

    return write


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("masking/change", {"shape": "lab_of_bad_input:over", "rate": 0.3},
         "masking.change.shape: lab_of_bad_input:over: is 1.002 at progress 0.501; it must stay in [0, 1]"),
        ("masking/change", {"shape": "cosine", "rate": 1.2}, "masking.change.rate: is 1.2; should be less"),
        ("masking/change", {"shape": "cosine", "split": {"mask": 0.5}},
         "masking.change.split: mask + same + random = 0.5; the shares of the selected tokens must add up"),
        ("lengths", {"shape": "staged", "values": [6, 16]},
         "lengths.values: lengths.values 6 do not divide sequence_length 16, so the 128 tokens of a step do "
         "not come out; use divisors of 16"),
        ("lengths", {"shape": "staged", "values": [4, 8]},
         "lengths.values: lengths.values end at 8; they end at sequence_length, 16"),
        ("lengths", {"shape": "staged", "values": [8, 16], "ends": [1.5]}, "lengths.ends.0: is 1.5; should be"),
        ("stretch", 5, "stretch: stretch 5 does not divide sequence_length 16; use a divisor"),
        ("attention", {"group": 5}, "attention.group: attention.group 5 does not divide sequence_length"),
        ("micro_batch", 3, "micro_batch: micro_batch 3 does not divide batch_size 8; use a divisor"),
        ("masking", {"unit": "span", "span": {"longest": 17}},
         "masking.span.longest: masking.span.longest 17 words is longer than sequence_length 16; shorten it"),
        ("masking/strategy", "nowhere.masking:Diagonal",
         "masking.strategy: nowhere.masking:Diagonal: there is no module `nowhere`; correct the path, or add "
         "the folder that `nowhere` lies in to PYTHONPATH"),
        ("masking/strategy", "lab_of_bad_input:pick",
         "masking.strategy: lab_of_bad_input:pick: `pick(tokens, masking, uniform, *, n_tokens, begins_word, "
         "step)` will be called, but its parameters are (tokens, rate); change them"),
    ],
)  # fmt: skip
def test_an_arm_is_refused_before_anything_is_made(
    study: Callable[..., Path], typed: Typed, path: str, value: Any, said: str
) -> None:
    folder = study(experiment=setting(f"arms/bert/{path}", value))
    told = refused(typed(folder, "train", "trial", "--arm", "bert", "--scale", "test"))
    assert f"error: {TRIAL}: arms.bert.{said}" in told
    assert not (folder / "results").exists()


def test_a_probe_of_the_users_own_that_cannot_be_called_is_refused(
    study: Callable[..., Path], typed: Typed
) -> None:
    folder = study(scale=setting("measures/plugins", {"depth": "lab_of_bad_input:pick"}))
    told = refused(typed(folder, "train", "trial", "--scale", "test"))
    said = "measures.plugins: depth: lab_of_bad_input:pick: `pick(encoder, tokenizer, run)` will be called"
    assert f"{SCALE_FILE}: {said}" in told
    assert not (folder / "results").exists()


def test_a_measure_without_its_data_is_refused(study: Callable[..., Path], typed: Typed) -> None:
    source = {"kind": "files", "paths": ["nowhere/*.txt"]}
    task = {"title": "t", "licence": "none", "format": "labelled", "source": source, "held_out": 0.2}
    folder = study(scale=setting("measures/tasks", ["mine"]))
    write_yaml(folder / "experiments" / "probes" / "mine.yaml", task)
    (folder / "experiments" / "probes" / "brown.yaml").unlink()
    told = refused(typed(folder, "train", "trial", "--scale", "test"))
    assert f"{SCALE_FILE}: measures.probe: experiments/probes/brown.yaml: no such file" in told
    assert f"{SCALE_FILE}: measures.tasks: experiments/probes/mine.yaml: source.paths: " in told
    assert "nowhere/*.txt" in told
    assert not (folder / "results").exists()


def archive(path: Path, **members: str) -> None:
    with tarfile.open(path, "w:gz") as stream:
        for name, text in members.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(text)
            stream.addfile(info, io.BytesIO(text.encode()))


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"ca01": "The/at end/nn ./.\n", "ca03": "The/at\nend/nn of ./.\n"},
         "member package/ca03, line 2: 'of' is not word/tag; narrow source.members of experiments/"),
        ({"cats": "a list of tags"}, "experiments/probes/brown.yaml: source.members: takes in package/cats, "),
    ],
)  # fmt: skip
def test_a_brown_file_that_does_not_parse_is_named(
    study: Callable[..., Path],
    typed: Typed,
    monkeypatch: pytest.MonkeyPatch,
    members: dict[str, str],
    said: str,
) -> None:
    folder = study()
    (folder / "archives").mkdir()
    archive(folder / "archives" / "brown.tgz", **members)
    content = {
        "title": "b",
        "licence": "none",
        "source": {"kind": "package", "registry": "npm", "package": "b@1", "members": "package/c*",
                   "sha256": file_sha256(folder / "archives" / "brown.tgz")},
        "held_out_digits": [3],
        "shortest_words": 1,
        "longest_words": 9,
    }  # fmt: skip
    write_yaml(folder / "experiments" / "probes" / "brown.yaml", content)
    monkeypatch.setenv("MLM_ARCHIVES", str(folder / "archives"))
    assert said in refused(typed(folder, "sentences", "out.jsonl"))
    assert not (folder / "out.jsonl").exists()


def test_text_that_lacks_the_grammars_words_is_refused(tmp_path: Path, typed: Typed) -> None:
    listed = [*FUNCTION_WORDS, *(word for text in LISTS.values() for word in text.replace(",", "").split())]
    corpus = corpus_of(tmp_path / "corpus", text_of([word for word in listed if word != "these"]))
    told = refused(typed(tmp_path, "grammar", str(corpus), "pairs.jsonl"))
    assert f"{corpus}/train.jsonl: the grammar's word 'these' occurs 0 times in the training text" in told
    assert "take another corpus for this measure, or give a file of BLiMP" in told
    assert not (tmp_path / "pairs.jsonl").exists()


@pytest.mark.parametrize("split", ["train", "test"])
def test_pairs_of_a_text_without_sentence_boundaries_are_refused_before_the_first_step(
    study: Callable[..., Path], typed: Typed, split: str
) -> None:
    """At the start of the training that made the shards, and ever after in planning."""
    folder = study(experiment=setting("arms/bert", {"objective": "mlm+nsp"}))
    held_out = {"class": "validation", "compound": "validation", "typesmapping": "test", "strings": "test"}
    for text in (folder / "text").glob("*.txt"):
        if held_out.get(text.stem, "train") == split:
            text.write_text(" ".join(text.read_text().split()))
    words = ("train", "trial", "--arm", "bert", "--scale", "test")
    told = refused(typed(folder, *words))
    assert re.search(rf"error: objective: nsp: reference-.*, {split} split: a corpus without sentence", told)
    assert "write a sentence a line, or choose another objective" in told
    assert not list((folder / "results" / "runs").glob("*/metrics.jsonl"))
    told = refused(typed(folder, *words))
    assert (
        f"error: {TRIAL}: arms.bert.objective: mlm+nsp reads pairs of lines, and no document of corpus " in told
    )
    assert f"reference, {split} split, has two; write a sentence a line, or choose another objective" in told
