"""Folders a test can work in: a small study of its own, and commands run there."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
import yaml

from mlm import study
from mlm.corpus import SPLITS
from mlm.errors import InputError
from mlm.files import file_sha256, write_json
from tests import PATIENCE_SECONDS, forked

ROOT = Path(__file__).parents[2]
ARCHIVES = Path(os.environ.get("MLM_ARCHIVES", ROOT / ".cache" / "archives")).resolve()

# English prose that every CPython carries: its own language reference, half a megabyte.
TOPICS = dict(sorted(topics.items()))
TEXT = "\n".join(TOPICS.values())

CORPUS: dict[str, Any] = {
    "title": "Python's language reference",
    "licence": "Python Software Foundation License",
    "source": {"kind": "files", "paths": ["text/*.txt"]},
    "split": {"validation": ["class", "compound"], "test": ["typesmapping", "strings"]},
    "prompts": ["The class definition is an executable statement.", "A string is a sequence of characters."],
}

SCALE: dict[str, Any] = {
    "experiments": ["trial"],
    "evidence": False,
    "checkpoint_seconds": 1e-3,
    "numerics": {"device": "cpu", "dtype": "float32", "path": "eager"},
    "run": {
        "corpus": "reference",
        "vocabulary": {"kind": "unigram", "size": 400},
        "encoder": {"preset": "modern", "size": "tiny", "width": 32, "heads": 2, "max_positions": 96},
        "sequence_length": 16,
        "batch_size": 8,
        "budget_tokens": 16 * 8 * 40,
        "log_every_tokens": 16 * 8 * 4,
        "optimizer": {"learning_rate": 3e-3, "warmup_tokens": 512, "decay_tokens": 2048},
        "curve": {"every_tokens": 16 * 8 * 16, "sequences": 8},
    },
    "measures": {"evaluation": {"sequences": 16}, "probe": {"train_sentences": 120, "test_sentences": 60}},
}

EXPERIMENT: dict[str, Any] = {
    "title": "A trial",
    "question": "Does it run?",
    "claim": "It runs.",
    "reference": "none",
    "cost": "seconds",
    "base": {"masking": {"rate": 0.15}},
    "baseline": "80-10-10",
    "arms": {
        "80-10-10": {"masking": {"split": {"mask": 0.8, "same": 0.1, "random": 0.1}}},
        "100-0-0": {"masking": {"split": {"mask": 1.0}}},
        "bert": {"encoder": {"preset": "bert"}},
    },
    "seeds": 2,
    "primary_measure": "probe.accuracy",
    "contrasts": {"primary": {"arm": "100-0-0", "expect": "lower"}},
}


def yaml_of(content: Mapping[str, Any]) -> str:
    return yaml.dump(dict(content), Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)


def write_yaml(path: Path, content: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml_of(content), encoding="utf-8")
    return path


def found_study(folder: Path, scale: Mapping[str, Any] = SCALE, **experiments: Mapping[str, Any]) -> Path:
    """Write text, corpus, probe, scale and experiments (`trial` unless told) into `folder`."""
    (folder / "text").mkdir(parents=True, exist_ok=True)
    for name in ("class", "compound", "typesmapping", "strings", "objects", "specialnames", "types", "import"):
        (folder / "text" / f"{name}.txt").write_text(TOPICS[name], encoding="utf-8")
    here = folder / "experiments"
    write_yaml(here / "corpora" / "reference.yaml", CORPUS)
    write_yaml(here / "scales" / "test.yaml", scale)
    for name, content in (experiments or {"trial": EXPERIMENT}).items():
        write_yaml(here / f"{name}.yaml", content)
    (here / "probes").mkdir(exist_ok=True)
    shutil.copy(ROOT / "experiments" / "probes" / "brown.yaml", here / "probes")
    return folder


def seal(folder: Path) -> Path:
    """Write the manifest of a corpus folder over the files that are in it."""
    files = {split: folder / f"{split}.jsonl" for split in SPLITS}
    splits = {
        split: {"characters": path.stat().st_size, "sha256": file_sha256(path)} for split, path in files.items()
    }
    write_json(folder / "corpus.json", {"splits": splits})
    return folder


def copy_of(place: Path, folder: Path) -> Path:
    """The same study and data, its runs planned and none of them trained."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(place / "experiments", folder / "experiments")  # a test may edit them
    (folder / "text").symlink_to(place / "text")
    (folder / "results").mkdir()
    (folder / "results" / "data").symlink_to(place / "results" / "data")
    for planned in (place / "results" / "runs").glob("*/config.json"):
        run = folder / "results" / "runs" / planned.parent.name
        run.mkdir(parents=True)
        shutil.copy(planned, run)
        if (planned.parent / "labels.json").exists():
            shutil.copy(planned.parent / "labels.json", run)
    return folder


def environment(**variables: str) -> dict[str, str]:
    """This process's environment, with the package found and Weights & Biases off unless asked for."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    here = {"PYTHONPATH": str(ROOT), "WANDB_MODE": "disabled", "MLM_ARCHIVES": str(ARCHIVES), "COLUMNS": "200"}
    return {**kept, **here, **variables}


def mlm(place: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python -m mlm …` in a place; its output as text."""
    known = environment(**variables)
    if "PYTHONPATH" not in variables and known["WANDB_MODE"] == "disabled":
        return forked.run("mlm", words, place, known)
    # Another state of the code is to be imported, and W&B settles much when it is, and when a process ends.
    command = [sys.executable, "-m", "mlm", *words]
    return subprocess.run(
        command,
        cwd=place,
        env=known,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def done(result: subprocess.CompletedProcess[str]) -> str:
    """The output of a command that went well."""
    assert result.returncode == 0, result.stderr + result.stdout
    return result.stdout


def refused(result: subprocess.CompletedProcess[str]) -> str:
    """What a command said that refused bad input: exit code 2, no traceback."""
    assert result.returncode == 2, (result.returncode, result.stderr, result.stdout)
    assert "Traceback" not in result.stderr
    return result.stderr


BESIDE_TRAINING = {"pandas", "scipy", "matplotlib", "wandb", "transformers", "datasets"}
"""Packages that plan, analyse or publish: a training imports none of them."""


def loaded(place: Path, *words: str) -> set[str]:
    """Modules that `python -m mlm …` has imported when it ends, which it must do well."""
    code = f"import sys; from mlm.__main__ import main\ntry: main({[*words]})\nfinally: print(*sys.modules)"
    command = [sys.executable, "-c", code]
    told = {"cwd": place, "env": environment(), "timeout": PATIENCE_SECONDS}
    result = subprocess.run(command, capture_output=True, text=True, check=False, **told)
    return {*done(result).splitlines()[-1].split()}


def seal_sentences(path: Path, lines: str) -> None:
    """Write sentences as `brown.prepare` does, under the checksum of their lines."""
    header = {"sha256": hashlib.sha256(lines.encode()).hexdigest()}
    path.write_text(json.dumps(header) + "\n" + lines, encoding="utf-8")


SCALE_FILE, TRIAL_FILE = "experiments/scales/test.yaml: ", "experiments/trial.yaml: "
Change = Callable[[dict[str, Any]], None]


def setting(path: str, value: Any) -> Change:
    """A change that sets (or with None removes) one key."""

    def change(content: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        for parent in parents:
            content = content.setdefault(parent, {})
        if value is None:
            del content[last]
        else:
            content[last] = value

    return change


def refusal(trial: Callable[..., study.Study], **changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        trial(**changes)
    return str(caught.value)


def digests(found: study.Study, experiment: str = "trial") -> dict[tuple[str, int], str]:
    return {(cell.arm, cell.seed): cell.digest for cell in found.cells if cell.experiment == experiment}
