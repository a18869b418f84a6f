"""No value of a configuration reaches a shell as anything but one word."""

import ast
import json
import re
import string
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from mlm import golden
from mlm.measured import planned_code
from mlm.pipeline import Plan
from mlm.planner import load_study
from tests import PATIENCE_SECONDS
from tests.malformed import valid
from tests.malformed.commands import CONFIG, typed
from tests.mlm.places import CORPUS, EXPERIMENT, SCALE, found_study, write_yaml
from tests.pipeline.copies import Copy, copy_to

ROOT = Path(__file__).parents[2]
NASTY = ["two words", "it's", 'a "quote"', "$(touch pwned)", "`touch pwned`", "a; touch pwned",
         "a\ntouch pwned", "größe ☂", "-rf", "--help", "$HOME", "a && touch pwned", "*",
         "{wildcards}", "a|b", "\\"]  # fmt: skip


# What the Snakefile writes into its shell commands


def shells() -> Iterator[tuple[str, list[ast.expr]]]:
    """Every `shell:` of the Snakefile: its text as Snakemake has it, and what Python put into it."""
    text = (ROOT / "Snakefile").read_text()
    for block in re.findall(r"^ +shell:\n((?: +f?\".*\"\n)+)", text, re.MULTILINE):
        tree = ast.parse("(" + block + ")", mode="eval").body
        parts = tree.values if isinstance(tree, ast.JoinedStr) else [tree]
        constant = [part.value for part in parts if isinstance(part, ast.Constant)]
        yield (
            "".join(map(str, constant)),
            [part.value for part in parts if isinstance(part, ast.FormattedValue)],
        )


def test_every_word_of_a_shell_command_is_quoted_or_can_only_be_a_plain_one() -> None:
    text = (ROOT / "Snakefile").read_text()
    found = list(shells())
    assert len(found) == len(re.findall(r"^ +shell:$", text, re.MULTILINE)) > 15
    digests = {"wildcards.run", "wildcards.untrained"}
    for name in ("run", "untrained"):
        assert f'{name}="[0-9a-f]{{16}}"' in text  # of a digest nothing needs quotes
    for said, python in found:
        for _, field, form, _ in string.Formatter().parse(said):
            plain = field in (None, "threads", *digests) or field in (
                "params.words",
                "params.planned",
            )  # joined and quoted by shlex, below
            assert plain or form == "q", (field, said)
        # A scale's name has a pattern, as has then a file in its folder, and seconds are a number.
        plain_python = {"scale", "layout.measures_file(scale)", "study.scale.checkpoint_seconds"}
        assert {ast.unparse(one) for one in python} <= plain_python


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(valid.found(tmp_path / "study"))
    monkeypatch.setattr(golden, "codes", lambda numerics, asked: ["0" * 16 for _ in asked])
    return Path.cwd()


def words_of(shell: str) -> list[str]:
    """What a real shell makes of words."""
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {shell}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_SECONDS,
    )
    return done.stdout.split("\0")[:-1]


@pytest.mark.parametrize("name", NASTY)
def test_paths_that_may_be_called_anything_stay_one_word(place: Path, name: str) -> None:
    """Of pairs, of tokenizers, of texts."""
    pair = {"UID": "kind", "sentence_good": "These cats sleep.", "sentence_bad": "These cats sleeps."}
    Path(f"{name}.jsonl").write_text(json.dumps(pair) + "\n")
    scale = {**valid.SCALE_WITH_ALL, "measures": {"pairs": {"file": f"{name}.jsonl"}}}
    write_yaml(Path(valid.TEST_SCALE), scale)
    content = {key: value for key, value in valid.EXPERIMENT_WITH_ALL.items() if key not in ("tune", "figures")}
    content["contrasts"] = {"primary": {"arm": "100-0-0"}}
    write_yaml(Path(valid.TRIAL), content | {"primary_measure": "pairs.accuracy", "measures": {}})
    study = load_study("test")
    (measure,) = study.measures["trial"]
    assert words_of(measure.preparing) == ["--file", f"{name}.jsonl"]
    run = next(iter(study.runs.values()))
    plan = Plan.__new__(Plan)
    assert plan.words([measure], run) and len(words_of(plan.words([measure], run))) == 4
    assert words_of(planned_code([measure])) == ["--planned", f"pairs={measure.code}"]
    plan.vocabularies = {"v": run.config.model_copy(update={"tokenizer": name})}
    assert words_of(plan.vocabulary("v")) == ["--tokenizer", name]
    assert not Path("pwned").exists()


def _put(content: dict[str, Any], path: str, name: str) -> dict[str, Any]:
    """A copy of the content with a name in the place of a value, or of a key."""
    changed = deepcopy(content)
    here: Any = changed
    *above, last = path.split("/")
    for part in above:
        here = here[int(part)] if isinstance(here, list) else here.setdefault(part, {})
    if last == "KEY":
        here[name] = {}
    else:
        here[int(last) if isinstance(here, list) else last] = name
    return changed


KEYS = [
    (valid.TRIAL, "arms/KEY"),
    (valid.TRIAL, "baseline"),
    (valid.TRIAL, "primary_measure"),
    (valid.TRIAL, "contrasts/primary/arm"),
    (valid.TRIAL, "figures/0/name"),
    (valid.TEST_SCALE, "experiments/0"),
    (valid.TEST_SCALE, "run/corpus"),
    (valid.TEST_SCALE, "run/vocabulary/kind"),
    (valid.TEST_SCALE, "run/objective"),
    (valid.TEST_SCALE, "run/tokenizer"),
    (valid.TEST_SCALE, "run/init_from"),
    (valid.TEST_SCALE, "measures/tasks/0"),
    (valid.TEST_SCALE, "measures/plugins/KEY"),
]


def test_names_that_are_no_plain_ones_are_refused_before_a_start(place: Path) -> None:
    for file, path in KEYS:
        for name in NASTY:
            write_yaml(place / file, _put(valid.WHOLE[file], path, name))
            told = typed(place, CONFIG, "scale=test")
            assert told.code == 2 and "Traceback" not in told.said, (file, path, name, told)
        write_yaml(place / file, valid.WHOLE[file])
    for name in NASTY:
        if name not in ("-rf", "--help"):
            assert typed(place, CONFIG, f"scale={name}").code == 2
        other = place / "experiments" / f"{name}.yaml"
        write_yaml(other, EXPERIMENT)
        told = typed(place, CONFIG, "scale=test")
        assert told.code == 2 and "name: use letters, digits" in told.said, (name, told)
        other.unlink()
    assert not [*place.rglob("pwned*")]


# Snakemake itself


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """One small study in a copy of the repository; its texts and pairs have names a shell could stumble on."""
    here = copy_to(tmp_path_factory.mktemp("shell") / "it's a `touch pwned` $(touch pwned) copy")
    for file in (here.folder / "experiments").glob("*.yaml"):
        file.unlink()
    pairs = "pairs $(touch pwned) `touch pwned`\n'größe\".jsonl"
    scale = {**SCALE, "measures": {"pairs": {"file": pairs}}}
    arms = {"arms": {arm: EXPERIMENT["arms"][arm] for arm in ("80-10-10", "100-0-0")}}
    found_study(
        here.folder, scale, trial={**EXPERIMENT, **arms, "primary_measure": "pairs.accuracy", "seeds": 1}
    )
    text = here.folder / "text"
    (text / "strings.txt").rename(text / "-- $(touch pwned); 'strings'.txt")
    split = {"validation": ["class", "compound"], "test": ["typesmapping", "-- $(touch pwned); 'strings'"]}
    write_yaml(here.folder / "experiments/corpora/reference.yaml", {**CORPUS, "split": split})
    sentences = [
        ("The class is a statement.", "The class are a statement."),
        ("It is a list.", "It are a list."),
    ]
    records = [{"UID": "kind", "sentence_good": good, "sentence_bad": bad} for good, bad in sentences]
    (here.folder / pairs).write_text("".join(json.dumps(record) + "\n" for record in records))
    return here


def test_snakemake_runs_what_was_meant_and_nothing_else(copy: Copy) -> None:
    told = copy.run(
        "snakemake", "--cores", "1", "--until", "pairs", "--config", "scale=test", "--printshellcmds", "trial"
    )
    assert "$(touch pwned)" in told.stdout + told.stderr
    (made,) = copy.folder.glob("results/data/pairs/*/pairs.jsonl")
    assert "The class is a statement." in made.read_text()
    assert not [*copy.folder.parent.rglob("pwned*")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--config", "scale=$(touch pwned)"], "error: scale '$(touch pwned)': use letters, digits and"),
        (["--config", "scala=test"], "error: --config scala: unknown key; known keys: scale, mixed"),
    ],
)
def test_snakemake_ends_with_exit_code_2_and_a_message(copy: Copy, words: list[str], said: str) -> None:
    done = copy.run("snakemake", "--dry-run", *words, ok=False)
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr
    assert not [*copy.folder.parent.rglob("pwned*")]


# The Makefile


@pytest.mark.parametrize("target", ["report", "partial", "arxiv", "results", "verify", "study"])
def test_make_passes_a_scale_on_as_one_word(tmp_path: Path, target: str) -> None:
    tools = tmp_path / "venv" / "bin"
    tools.mkdir(parents=True)
    (tmp_path / "venv" / "installed").touch()
    for tool in ("python", "snakemake"):
        (tools / tool).write_text(f"#!/bin/bash\nprintf '%s\\0' \"$@\" >> '{tmp_path}/words'\n")
        (tools / tool).chmod(0o755)
    nasty = "a; touch pwned `touch pwned` 'x' \"y\""
    done = subprocess.run(
        ["make", "-f", ROOT / "Makefile", target, f"VENV={tmp_path}/venv", f"SCALE={nasty}",
         f"CORES={nasty} cores", f"PATH={tools}:/usr/bin:/bin",
         "--old-file=requirements.lock", f"--old-file={tmp_path}/venv/installed"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    words = (tmp_path / "words").read_text().split("\0")
    assert any(word.endswith(nasty) for word in words)
    assert not any(word.startswith("touch") for word in words) and not (tmp_path / "pwned").exists()
