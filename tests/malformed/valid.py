"""Files that are right, each with every section that it may have: what malformed ones are made from."""

import copy
from pathlib import Path
from typing import Any

from tests.mlm.places import CORPUS, EXPERIMENT, SCALE, found_study, write_yaml

STEP = 16 * 8
TRIAL = "experiments/trial.yaml"
TEST_SCALE = "experiments/scales/test.yaml"
REFERENCE = "experiments/corpora/reference.yaml"
MIXED = "experiments/corpora/mixed.yaml"
PACKAGED = "experiments/corpora/packaged.yaml"
HUB = "experiments/corpora/hub.yaml"
TASK = "experiments/probes/mine.yaml"
BROWN = "experiments/probes/brown.yaml"

PACKAGE: dict[str, Any] = {
    "kind": "package",
    "registry": "python",
    "package": "a==1",
    "wheel": "py3-none-any",
    "sha256": "0" * 64,
    "members": "*",
}
FILES: dict[str, Any] = {"kind": "files", "paths": ["text/*.txt"], "text_key": "text"}
SPLIT: dict[str, Any] = {"validation": ["class", "compound"], "test": ["typesmapping", "strings"]}


def _merged(content: dict[str, Any], **more: Any) -> dict[str, Any]:
    return copy.deepcopy({**content, **more})


SCALE_WITH_ALL = _merged(
    SCALE,
    seeds_at_least=1,
    seeds_at_most=8,
    compile=False,
    wandb={"mode": "disabled", "project": "mlm", "upload_weights": False, "wait_seconds": 1.0},
    numerics={**SCALE["numerics"], "deterministic": False, "processes": 1},
    measures={
        "evaluation": {"sequences": 16},
        "probe": {"train_sentences": 120, "test_sentences": 60},
        "pairs": {"per_kind": 20},
        "tasks": ["mine"],
        "finetune": {"tasks": ["mine"], "restarts": 1, "epochs": 1},
        "reach": {"loss_nats": [5.5], "below_unigram_nats": [0.5]},
        "corruptions": {"sequences": 8, "arms": {"all-masked": {"split": {"mask": 1.0}}}},
        "radius": {"distances": [1, 2], "sequences": 8},
        "bits_per_byte": {"bytes": 1000},
        "over_training": ["probe"],
    },
    run={
        **SCALE["run"],
        "masking": {"rate": 0.15, "unit": "token", "span": {"p": 0.2, "longest": 4},
                    "split": {"mask": 0.8, "same": 0.1, "random": 0.1},
                    "change": {"shape": "step", "rate": 0.1, "at": 0.5, "split": {"mask": 1.0}}},
        "attention": {"window": {"shape": "staged", "values": [8, 16], "ends": [0.5]}},
        "lengths": {"shape": "linear", "values": [8, 16], "until": 0.5},
        "checkpoints_at": {"first": STEP * 4, "number": 2},
        "micro_batch": 4,
    },
)  # fmt: skip

BERT: dict[str, Any] = {"encoder": {"preset": "bert"}}
EXPERIMENT_WITH_ALL = _merged(
    EXPERIMENT,
    base={},
    arms={"80-10-10": {}, "100-0-0": {"masking": {"split": {"mask": 1.0}, "change": None}}, "bert": BERT},
    match="tokens",
    varies=["masking", "encoder"],
    measures={"evaluation": {"sequences": 9}},
    tune={"learning_rates": [1e-3, 2e-3, 4e-3], "seeds": [7, 8], "measure": "validation.own.loss_nats"},
    pilot=[20, 21, 22, 23, 24],
    figures=[{"kind": "dose", "name": "by-rate", "arms": ["80-10-10", "100-0-0"], "x": "masking.rate",
              "by": ["masking.split.mask"], "log": False, "measure": "probe.accuracy"}],
    contrasts={
        "primary": {"arm": "100-0-0", "against": "80-10-10", "measure": "probe.accuracy", "expect": "lower"},
        "secondary": [{"arm": "bert"}],
        "equivalence": [{"arm": "bert", "margin": 0.02}],
    },
)  # fmt: skip

CORPUS_OF_FILES = _merged(
    CORPUS, source=FILES, split=SPLIT, cleaning="none", near_duplicates="keep", prompts=["A string is …"]
)
CORPUS_OF_SEVERAL: dict[str, Any] = {
    "title": "Two parts",
    "sources": [
        {
            "name": "mine",
            "title": "Mine",
            "licence": "none",
            "cleaning": "none",
            "source": FILES,
            "split": SPLIT,
        }
    ],
    "near_duplicates": "keep",
    "split": {"validation": 0.1, "test": 0.1},
    "prompts": [],
}
CORPUS_OF_A_PACKAGE = _merged(CORPUS, source=PACKAGE)
CORPUS_OF_THE_HUB = _merged(
    CORPUS, source={"kind": "huggingface", "path": "nobody/nothing", "name": "en",
                    "revision": "1" * 40, "part": "train", "text_key": "text"},
)  # fmt: skip
TASK_OF_FILES: dict[str, Any] = {
    "title": "Mine",
    "licence": "none",
    "format": "labelled",
    "source": {"kind": "files", "paths": ["own.txt"], "text_key": "text"},
    "held_out": 0.3,
}
BROWN_OF_A_PACKAGE: dict[str, Any] = {
    "title": "Brown",
    "licence": "none",
    "source": PACKAGE,
    "held_out_digits": [3],
    "shortest_words": 1,
    "longest_words": 9,
}

WHOLE = {
    TEST_SCALE: SCALE_WITH_ALL,
    TRIAL: EXPERIMENT_WITH_ALL,
    REFERENCE: CORPUS_OF_FILES,
    MIXED: CORPUS_OF_SEVERAL,
    PACKAGED: CORPUS_OF_A_PACKAGE,
    HUB: CORPUS_OF_THE_HUB,
    TASK: TASK_OF_FILES,
    BROWN: BROWN_OF_A_PACKAGE,
}
"""File -> its content."""


def found(folder: Path) -> Path:
    """A study of these files, with the texts that they name."""
    found_study(folder)
    for name, content in WHOLE.items():
        write_yaml(folder / name, content)
    rows = [f"{label} {text} number {n}\n" for n in range(40) for label, text in (("A", "The"), ("B", "One"))]
    (folder / "own.txt").write_text("".join(rows))
    return folder
