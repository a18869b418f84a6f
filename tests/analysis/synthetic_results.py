"""Synthetic results in the formats of the contracts. Every value here is made up by a formula."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from mlm import config, grammar, identity, measured, measures
from mlm.experiment import Measures
from mlm.files import file_sha256

REPOSITORY = Path(__file__).parents[2]
EXPERIMENT = "split"
SPLITS = {
    "80-10-10": (0.80, 0.10, 0.10),
    "100-0-0": (1.0, 0.0, 0.0),
    "80-0-20": (0.80, 0.0, 0.20),
    "80-20-0": (0.80, 0.20, 0.0),
    "0-20-80": (0.0, 0.20, 0.80),
    "0-0-100": (0.0, 0.0, 1.0),
    "81-9-10": (0.81, 0.09, 0.10),
    "causal": (0.0, 1.0, 0.0),
}
EFFECTS = {
    "80-10-10": 0.0,
    "100-0-0": -0.034,
    "80-0-20": 0.002,
    "80-20-0": -0.028,
    "0-20-80": -0.15,
    "0-0-100": -0.21,
    "81-9-10": 0.001,
}
MEASURES = Measures.model_validate(
    {
        "evaluation": {},
        "probe": {},
        "pairs": {},
        "tasks": ["trec"],
        "reach": {"loss_nats": [5.0]},
        "plugins": {"mine": "my_lab.probes:depth"},
        "over_training": ["pairs"],
    }
)
NAMES = ("evaluation", "probe", "pairs", "tasks.trec", "reach", "plugins.mine")
MEASURE_FILES = {name: f"{name}-synthetic00000000.json" for name in NAMES}
SENTENCES = Path("results/data/probes/brown-0/sentences.jsonl")
"""What the probe reads."""
UNTRAINED = ("probe", "pairs", "tasks.trec")
BUDGET = 2_621_440
LAYERS = 2


def contrasts(arms: dict[str, Any]) -> list[dict[str, Any]]:
    def row(arm: str, family: str, **more: Any) -> dict[str, Any]:
        return {"family": family, "arm": arm, "against": "80-10-10", "measure": "probe.accuracy", **more}

    stated = [row("100-0-0", "primary", expect="lower")]
    stated += [row(arm, "secondary", expect="lower") for arm in ("80-0-20", "80-20-0", "0-20-80", "0-0-100")]
    stated += [row("81-9-10", "equivalence", margin=0.02)]
    return [row for row in stated if row["arm"] in arms]


def write_json(path: Path, content: Any) -> None:
    """As the project writes it, without waiting for the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


WHY = "a fused [kernel] rounds otherwise"


def accept(made: "Synthetic", arm: str) -> None:
    """Let the study rest on an accepted change of the code of an arm's runs."""
    path = made.results / made.scale / "study.json"
    study = json.loads(path.read_text())
    study["experiments"][EXPERIMENT]["accepted"] = [{"why": WHY, "arms": [arm]}]
    write_json(path, study)


class Synthetic:
    """A study's results under `root`; write() puts them there, and single runs can be spoilt after."""

    def __init__(
        self,
        root: Path,
        *,
        scale: str = "laptop",
        seeds: int = 8,
        evidence: bool = True,
        effects: dict[str, float] | None = None,
        diverged: tuple[tuple[str, int], ...] = (),
        missing: tuple[tuple[str, int], ...] = (),
        spread: float = 0.008,
        changes: dict[str, dict[str, Any]] | None = None,
        begun_apart: tuple[str, ...] = (),
        unreached: dict[tuple[str, int], str] | None = None,
        off: tuple[str, ...] = (),
    ) -> None:
        self.root, self.scale, self.evidence, self.seeds = root, scale, evidence, range(seeds)
        self.effects = effects if effects is not None else EFFECTS
        self.diverged, self.missing, self.spread = set(diverged), set(missing), spread
        self.changes = changes or {}
        """Arm -> sections of its configuration that are its own."""
        self.unreached = unreached or {}
        """(arm, seed) -> `never` or `begun`, of the runs whose cost of 5 nats is censored."""
        sections = {name.partition(".")[0]: None for name in off}
        self.measures = MEASURES.model_copy(update=sections)
        self.files = {name: file for name, file in MEASURE_FILES.items() if name not in off}
        self.digests: dict[tuple[str, int], str] = {}
        self.untrained = {
            (arm, seed): f"{arm if arm in begun_apart else 'untrained'}{seed:07d}"
            for arm in self.effects
            for seed in self.seeds
        }

    @property
    def results(self) -> Path:
        return self.root / "results"

    def folder(self, arm: str, seed: int) -> Path:
        return self.results / "runs" / self.digests[arm, seed]

    def table(self, name: str) -> Path:
        return self.results / self.scale / "tables" / EXPERIMENT / name

    def write(self) -> "Synthetic":
        for name in ("paper", "experiments", "analysis/captions"):
            shutil.copytree(REPOSITORY / name, self.root / name, dirs_exist_ok=True)
        self.inputs = self._data()
        for arm in self.effects:
            for seed in self.seeds:
                self._run(arm, seed)
        for (_, seed), digest in self.untrained.items():
            draws = np.random.default_rng(900 + seed)
            values = {
                f"probe.{layer}{what}": float(base + draws.normal(0, 0.002))
                for layer, base in (("", 0.62), ("layer_0.", 0.598), ("layer_1.", 0.601), ("layer_2.", 0.603))
                for what in ("accuracy", "ambiguous_accuracy")
            }
            found = {
                "probe": {"values": values, **BESIDE["probe"]},
                "pairs": _pairs(0.5),
                "tasks.trec": _trec(0.4),
            }
            for name in UNTRAINED:
                record = {"run": digest, "measure": name, "status": "finished", **found[name]}
                write_json(self.results / "untrained" / digest / MEASURE_FILES[name], record)
        index = [
            {
                "experiment": EXPERIMENT,
                "arm": arm,
                "seed": seed,
                "digest": digest,
                "untrained": self.untrained[arm, seed],
            }
            for (arm, seed), digest in self.digests.items()
        ]
        experiment = {
            "title": "Synthetic: what stands in the place of a selected token?",
            "question": "Does keeping 10 % and replacing 10 % by random tokens help?",
            "claim": "80 % [MASK], 10 % same, 10 % random repairs this.",
            "reference": "Devlin et al. 2018, appendix C.2",
            "baseline": "80-10-10",
            "primary_measure": "probe.accuracy",
            "arms": list(self.effects),
            "measures": {
                arm: measured.names(self._config(arm, 0), self.measures, grammar.KINDS) for arm in self.effects
            },
            "measure_files": self.files,
            "untrained_files": {name: file for name, file in self.files.items() if name in UNTRAINED},
            "contrasts": contrasts(self.effects),
        }
        study = {
            "scale": self.scale,
            "evidence": self.evidence,
            "numerics": {"device": "cpu", "dtype": "bfloat16", "path": "eager", "deterministic": False},
            "experiments": {EXPERIMENT: experiment},
            "index": index,
        }
        write_json(self.results / self.scale / "study.json", study)
        return self

    def _data(self) -> dict[str, Any]:
        """Prepared data, each file with what vouches for it; and what runs say of them."""
        place = self.results / "data"
        corpus, shards = place / "corpora" / "shakespeare-0", place / "shards" / "s-0"
        vocabulary = place / "vocabularies" / "shakespeare-unigram-2048-0" / "vocabulary.model"
        splits: dict[str, dict[str, str]] = {}
        files = [vocabulary, self.root / SENTENCES]
        for split in ("train", "validation", "test"):
            arrays = [shards / f"{split}.{name}" for name in ("tokens", "offsets", "lines")]
            files += [corpus / f"{split}.jsonl", *arrays]
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"what {file.name} holds\n")
        for split in ("train", "validation", "test"):
            arrays = [shards / f"{split}.{name}" for name in ("tokens", "offsets", "lines")]
            splits[split] = {f"{array.suffix[1:]}_sha256": file_sha256(array) for array in arrays}
        texts = {split: file_sha256(corpus / f"{split}.jsonl") for split in splits}
        write_json(corpus / "corpus.json", {"splits": {k: {"sha256": sha256} for k, sha256 in texts.items()}})
        write_json(shards / "shards.json", {"splits": splits})
        manifests = {"corpus": corpus / "corpus.json", "shards": shards / "shards.json"}
        return {
            "corpus_sha256": texts,
            "vocabulary_sha256": file_sha256(vocabulary),
            "manifests_sha256": {kind: file_sha256(path) for kind, path in manifests.items()},
        }

    def _config(self, arm: str, seed: int) -> config.Run:
        mask, same, random = SPLITS[arm]
        own = {
            "masking": {"split": {"mask": mask, "same": same, "random": random}},
            "optimizer": {"warmup_tokens": 81_920, "decay_tokens": 1_572_864},
        }
        changes = self.changes.get(arm, {})
        sections = {key: own[key] | changes.get(key, {}) for key in own}
        return config.Run.model_validate({"seed": seed} | changes | sections)

    def _run(self, arm: str, seed: int) -> None:
        mask, same, _ = SPLITS[arm]
        chosen = self._config(arm, seed)
        content = {
            "training": chosen.model_dump(),
            "numerics": {"device": "cpu", "dtype": "bfloat16", "path": "eager", "deterministic": False},
            "data": {"corpus": "shakespeare-0", "vocabulary": "shakespeare-unigram-2048-0", "shards": "s-0"},
            "code": "synthetic0code00",
        }
        digest = identity.digest(json.loads(json.dumps(content)))
        self.digests[arm, seed] = digest
        folder = self.results / "runs" / digest
        write_json(folder / "config.json", content)
        if (arm, seed) in self.missing:
            return
        status = "diverged" if (arm, seed) in self.diverged else "finished"
        draws = np.random.default_rng([seed, *(int(1000 * share) for share in SPLITS[arm])])
        shared = np.random.default_rng(seed).normal(0, 0.01)
        level = 0.755 + shared + self.effects[arm] + draws.normal(0, self.spread)
        lines, final = _metrics(SPLITS[arm], draws, stop=0.4 if status == "diverged" else 1.0)
        save_file(
            {"embedding": np.zeros((32, 16), np.float32), "norm": np.ones(16, np.float32)},
            folder / "weights.safetensors",
        )
        how = self.unreached.get((arm, seed))
        if how == "begun":
            first = {"event": "evaluation", "step": 0, "tokens": 0, "train_seconds": 0.0}
            lines.insert(
                0, first | {part: {"loss_nats": 4.9, "accuracy": 0.1} for part in measures.CORRUPTIONS}
            )
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        self._measures(folder, digest, status, how, draws, float(level), final)
        selected = 393_000 + seed
        kinds = {"mask": round(selected * mask), "same": round(selected * same)}
        kinds["random"] = selected - sum(kinds.values())
        record = {
            "digest": digest,
            "status": status,
            "steps": 640,
            "tokens": chosen.budget_tokens,
            "flops": 10**12 * chosen.budget_tokens // BUDGET,
            "training_seconds": 25.0 + float(draws.normal()),
            "wall_seconds": 30.0,
            "peak_memory_bytes": 600_000_000,
            "realised": {
                "eligible": BUDGET - 1000,
                "selected": selected,
                **kinds,
                "predicted": round(selected * chosen.masking.predicted),
            },
            "diverged": {"step": 256, "learning_rate": 0.003} if status == "diverged" else None,
            "files": {name: file_sha256(folder / name) for name in ("weights.safetensors", "metrics.jsonl")},
            "code": "synthetic0code00",
            "git": {"commit": hashlib.sha1(b"synthetic").hexdigest(), "dirty": False},
            "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
            "device": "synthetic",
            "inputs": self.inputs,
            "data": {
                "corpus": {
                    "title": "The complete plays of Shakespeare (synthetic results)",
                    "licence": "Text in the public domain.",
                    "splits": {
                        "train": {
                            "documents": 35,
                            "characters": 4_400_000,
                            "bytes": 4_450_000,
                            "tokens": 1_250_000,
                        },
                        "validation": {
                            "documents": 2,
                            "characters": 230_000,
                            "bytes": 232_000,
                            "tokens": 66_000,
                        },
                        "test": {"documents": 2, "characters": 220_000, "bytes": 222_000, "tokens": 64_000},
                    },
                }
            },
        }
        write_json(folder / "run.json", record)

    def _measures(self, folder: Path, digest: str, status: str, how: str | None,
                  draws: np.random.Generator, level: float, final: dict[str, Any]) -> None:  # fmt: skip
        evaluation: dict[str, float] = {}
        for part in measures.SPLITS:
            for corruption in measures.CORRUPTIONS:
                for kind in ("", *measures.KINDS):
                    content = final[corruption].get(kind) if kind else final[corruption]
                    for quantity in measures.QUANTITIES if content else ():
                        name = ".".join(x for x in (part, corruption, kind, quantity) if x)
                        evaluation[name] = content[quantity] + (
                            0.05 if part == "test" and "loss" in name else 0.0
                        )
        rise = {"layer_0.": 0.0, "layer_1.": 0.30, "layer_2.": 0.55 + 4 * min(level - 0.755, 0.02), "": 1.0}
        probe = {}
        for layer, share in rise.items():
            value = 0.632 + (level - 0.632) * share + float(draws.normal(0, 0.003)) * (layer != "")
            probe[f"probe.{layer}accuracy"] = value
            probe[f"probe.{layer}ambiguous_accuracy"] = value - 0.06
        seen, examples = _sentences(probe["probe.accuracy"], draws)
        tokens = 262_144
        moment = {"step": 64, "tokens": tokens, "values": _pairs(level - 0.2)["values"]}
        reached = {"reach.5.tokens": 600_000.0 + level, "reach.5.flops": 2.4e12, "reach.5.censored": 0.0}
        seconds = {"reach.5.seconds": 6.5}
        if how:
            reached, seconds = {"reach.5.censored": 1.0}, {}
        found: dict[str, dict[str, Any]] = {
            "evaluation": {"values": evaluation},
            "probe": {"values": probe | seen, **BESIDE["probe"], "examples": examples},
            "pairs": _pairs(level) | {"over_training": [moment]},
            "tasks.trec": _trec(level),
            "reach": {"values": reached, "seconds": seconds},
            "plugins.mine": {"values": {"mine.depth": level, "mine.upper.width": 16.0}},
        }
        for measure, content in found.items():
            taken = content if status == "finished" else {"values": {}}
            data = {str(SENTENCES): file_sha256(self.root / SENTENCES)} if measure == "probe" else {}
            record = {"run": digest, "measure": measure, "status": status, "data": data, **taken}
            write_json(folder / MEASURE_FILES[measure], record)


def _sentences(accuracy: float, draws: np.random.Generator) -> tuple[dict[str, float], dict[str, Any]]:
    """`probe.accuracy` and its examples: words of 400 sentences, as many in all as the accuracy asks."""
    of = np.random.default_rng(1).integers(5, 26, 400)
    right = np.repeat(np.arange(len(of)), of)[draws.permutation(of.sum())[: round(accuracy * of.sum())]]
    found = np.bincount(right, minlength=len(of))
    listed = {"right": " ".join(map(str, found)), "of": " ".join(map(str, of))}
    return {"probe.accuracy": float(found.sum() / of.sum())}, {"probe.accuracy": listed}


def _pairs(level: float) -> dict[str, Any]:
    """`pairs`, every kind a little apart."""
    values = {"pairs.accuracy": level, "pairs.loss_nats": 8 - 2 * level}
    values |= {f"pairs.{kind}.accuracy": level + 0.01 * i for i, kind in enumerate(grammar.KINDS)}
    kinds = {f"unigram.{kind}.accuracy": 0.5 for kind in grammar.KINDS}
    references = {"chance.accuracy": 0.5, "unigram.accuracy": 0.5, **kinds}
    return {"values": values, "references": references, "counts": {"pairs": 1004}}


def _trec(level: float) -> dict[str, Any]:
    """The task `trec`."""
    layers = {f"trec.layer_{layer}.accuracy": level - 0.1 + 0.02 * layer for layer in range(LAYERS + 1)}
    references = {"trec.majority.accuracy": 0.23, "trec.words.accuracy": 0.71}
    counts = {"train_sentences": 4300, "test_sentences": 1076, "classes": 6}
    return {"values": {"trec.accuracy": level, **layers}, "references": references, "counts": counts}


BESIDE: dict[str, dict[str, Any]] = {
    "probe": {
        "references": {
            "lookup.word.accuracy": 0.839,
            "lookup.word.ambiguous_accuracy": 0.71,
            "lookup.first_piece.accuracy": 0.644,
            "lookup.first_piece.ambiguous_accuracy": 0.58,
        },
        "counts": {"train_words": 56_000, "test_words": 21_000, "ambiguous_words": 9_300, "tags": 61},
    }
}
"""What stands beside the values of a measure."""


def _metrics(
    split: tuple[float, float, float], draws: np.random.Generator, stop: float
) -> tuple[list[Any], Any]:
    """Lines of metrics.jsonl, and the last evaluation."""
    floor = 4.15 + 0.15 * split[1] + (1.6 if split[0] == 0 else 0.0) - 0.4 * (split[0] == 0 and split[1] > 0)
    floor += float(draws.normal(0, 0.02))
    shares = dict(zip(measures.KINDS, split, strict=True))
    lines, last = [], {}
    for step in range(1, 641):
        tokens = step * 4096
        if tokens > stop * BUDGET:
            break
        loss = floor + 2.9 * float(np.exp(-tokens / 450_000))
        if step % 40 == 0:
            targets = {kind: round(614 * share) for kind, share in shares.items()}
            lines.append(
                {"event": "train", "step": step, "tokens": tokens, "loss_nats": loss - 0.1,
                 "learning_rate": 3e-3, "gradient_norm": 0.7, "targets": targets, "train_seconds": step / 25}
            )  # fmt: skip
        if step % 64 == 0:
            own: dict[str, Any] = {"loss_nats": loss - 0.3 * split[1], "accuracy": 0.3}
            for kind, share in shares.items():
                if share > 0:
                    own[kind] = {
                        "loss_nats": 0.2 if kind == "same" else loss,
                        "accuracy": 0.98 if kind == "same" else 0.27,
                    }
            last = {"event": "evaluation", "step": step, "tokens": tokens,
                    "yardstick": {"loss_nats": loss, "accuracy": 0.28}, "own": own,
                    "train_seconds": step / 25}  # fmt: skip
            lines.append(last)
            prompts = _prompts(shows_mask=split[0] > 0, done=step == 640)
            lines.append({"event": "fills", "step": step, "tokens": tokens, "prompts": prompts})
    return lines, last


def _prompts(*, shows_mask: bool, done: bool) -> list[dict[str, Any]]:
    """Filled prompts: all wrong until the end, then two right of three, one where [MASK] is never shown."""
    answers = [
        (["▁To", "▁be", "▁or", "▁<i>", "&", "▁not"], {1: "▁be" if done and shows_mask else "▁</p>", 3: "▁the"}),
        (["▁My", "▁lord", "!"], {2: "!" if done else ","}),
    ]
    return [
        {"pieces": pieces, "fills": [{"position": i, "piece": p, "probability": 0.1} for i, p in at.items()]}
        for pieces, at in answers
    ]
