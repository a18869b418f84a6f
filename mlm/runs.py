"""A run's folder: opening what training wrote."""

import difflib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlm import accepted, devices, golden, identity, plugins, yaml_file
from mlm.config import Numerics, Run
from mlm.errors import Damaged, InputError
from mlm.files import file_sha256, read_json
from mlm.layout import EXPERIMENTS, RESULTS, kept_weights, run_name
from mlm.study import untrained_digest

if TYPE_CHECKING:
    import torch

    from mlm.encoder import Encoder
    from mlm.vocabulary import Tokenizer

_THEIRS = "another version of this package planned the run; read it with that one"
REMEDY = "delete the run's folder and run the pipeline again"


class OtherVersion(InputError):
    """A run that another version of this package planned, and this one cannot read: it is that one's."""


@dataclass(frozen=True)
class RunFolder:
    """A run by its folder; what is in it is read when asked for.

    >>> RunFolder.open(Path("results/runs/0123456789abcdef")).config.budget_tokens  # doctest: +SKIP
    2621440
    """

    path: Path
    config: Run
    numerics: Numerics
    record: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Read config.json, which must be the one whose digest names the folder.

        Raises:
            OtherVersion: it says what a run cannot be here.
        """
        if not path.is_dir():
            raise InputError(f"{path}: no such run; `python -m mlm runs` lists them")
        record, file = _record(path), f"{path}/config.json"
        try:
            training = yaml_file.validated(Run, record["training"], file, "training")
            numerics = yaml_file.validated(Numerics, record["numerics"], file, "numerics")
        except KeyError as error:
            raise OtherVersion(f"{file}: {error}: missing; {_THEIRS}") from None
        except InputError as error:
            raise OtherVersion(f"{error.problems[0]}; {_THEIRS}") from None
        return cls(path, training, numerics, record)

    @property
    def corpus_file(self) -> Path:
        return EXPERIMENTS / "corpora" / f"{self.config.corpus}.yaml"

    @property
    def corpus(self) -> Path:
        return RESULTS / "data" / "corpora" / str(self.record["data"]["corpus"])

    @property
    def vocabulary(self) -> Path:
        return RESULTS / "data" / "vocabularies" / str(self.record["data"]["vocabulary"]) / "vocabulary.model"

    @property
    def shards(self) -> Path:
        return RESULTS / "data" / "shards" / str(self.record["data"]["shards"])

    @property
    def labels(self) -> list[tuple[str, str, str, int]]:
        """(scale, experiment, arm, seed) of everyone who asked for this run."""
        path = self.path / "labels.json"
        if not path.exists():
            return []
        told = read_json(path, "delete it")
        try:
            return [(scale, experiment, arm, seed) for scale, experiment, arm, seed in told]
        except (TypeError, ValueError):
            raise Damaged(f"{path}: damaged, not the labels of a run; delete it") from None

    @property
    def name(self) -> str:
        """What a person calls the run: split/80-10-10/seed-0."""
        labels = self.labels
        return run_name(*labels[0][1:]) if labels else self.path.name

    def check_code(self) -> str:
        """Refuse to train by other code than was planned, which would be told as the planned one's.

        Returns:
            What the code is called by its bits, even where a change of them was accepted.

        Raises:
            InputError: the bits of the package's code or a plug-in's source changed since.
        """
        planned, own = self.record.get("plugins", {}), plugins.digests(self.config)
        changed = [path for path, now in own.items() if planned.get(path) != now]
        code = golden.code(self.numerics, self.config, own)
        if not changed and accepted.name(code) != self.record["code"]:
            changed.append("mlm")
        if changed:
            raise InputError(
                f"{self.path}: the source of {', '.join(changed)} changed since the run was planned; take "
                "the change back, or plan anew (`snakemake`), which makes it another run"
            )
        return code

    def outcome(self) -> dict[str, Any]:
        """run.json of an ended run, its files verified."""
        path = self.path / "run.json"
        if not path.exists():
            raise InputError(f"{self.path}: not finished; `python -m mlm train {self.path}` goes on with it")
        outcome = read_outcome(path)
        for name, stated in outcome["files"].items():
            file = self.path / name
            if not file.exists() or file_sha256(file) != stated:
                raise Damaged(f"{file}: missing or altered since the run ended; {REMEDY}")
        return outcome

    def tokenizer(self) -> "Tokenizer":
        """The run's vocabulary."""
        from mlm.vocabulary import Tokenizer

        tokenizer, ended = Tokenizer.read(self.vocabulary), self.path / "run.json"
        stated = read_outcome(ended).get("inputs", {}).get("vocabulary_sha256") if ended.exists() else None
        if stated and tokenizer.sha256 != stated:
            raise Damaged(
                f"{self.vocabulary}: not the vocabulary that {self.path} was trained with; delete it and run "
                "the pipeline again"
            )
        return tokenizer

    def compute(self) -> "tuple[torch.device, torch.dtype]":
        """Set this process up in the run's numerics."""
        devices.check(self.numerics, str(self.path / "config.json"))
        return devices.prepare(self.numerics)

    def encoder(self, trained: bool = True, step: int | None = None) -> "Encoder":
        """The run's encoder with its final weights, with those kept after a step, or before the first step."""
        device, dtype = self.compute()
        from mlm.checkpoint import load_weights
        from mlm.model import begin, build

        tokenizer = self.tokenizer()
        encoder = build(self.config, tokenizer.size, dtype)
        if step is not None:
            load_weights(self.kept(step), encoder)
        elif trained:
            self.outcome()
            load_weights(self.path / "weights.safetensors", encoder)
        else:
            begin(encoder, self.config, tokenizer, self.record["data"].get("initial"))
        return encoder.to(device).eval()

    def kept(self, step: int) -> Path:
        """File of the weights kept after a step."""
        path = kept_weights(self.path, step)
        if not path.exists():
            there = (
                ", ".join(str(int(file.stem)) for file in sorted(path.parent.glob("*.safetensors"))) or "none"
            )
            raise InputError(
                f"{self.path}: keeps no weights of step {step}; there are: {there} (see `checkpoints_at`)"
            )
        return path


def read_outcome(path: Path) -> dict[str, Any]:
    """The content of a run.json, whole."""
    outcome: dict[str, Any] = read_json(path, REMEDY)
    needed = ("digest", "status", "files", "tokens", "wall_seconds")
    if not isinstance(outcome, dict) or not all(key in outcome for key in needed):
        raise Damaged(f"{path}: damaged, it lacks one of {', '.join(needed)}; {REMEDY}")
    return outcome


def of_untrained(digest: str) -> RunFolder:
    """A planned run whose encoder before the first step has this digest, and whose data are there."""
    alike = (folder for folder in _folders() if untrained_digest(_record(folder)) == digest)
    for run in _in_order(alike):
        if (run.shards / "shards.json").exists():
            return run
    raise InputError(
        f"{digest}: no planned run whose data are prepared begins with this encoder; `snakemake` plans and "
        "prepares"
    )


def find(name: str, others: Iterable[str] = ()) -> RunFolder:
    """A run by folder, digest, beginning of a digest, or label such as split/80-10-10/seed-0.

    Args:
        others: experiments, one of which may have been meant.
    """
    if Path(name).is_dir() and (Path(name) / "config.json").exists():
        return RunFolder.open(Path(name))
    found = [folder for folder in _folders() if folder.name.startswith(name)]
    found = found or [
        run.path for run in everything() if any(name in _spellings(label) for label in run.labels)
    ]
    if len(found) == 1:
        return RunFolder.open(found[0])
    if found:
        raise InputError(f"{name}: fits {len(found)} runs; say more of the digest, or put the scale in front")
    near = difflib.get_close_matches(name, list(others), 3)
    hint = f", and experiments are called {', '.join(near)}" if near else ""
    raise InputError(f"{name}: no run has this folder, digest or label; `python -m mlm runs` lists them{hint}")


def _spellings(label: tuple[str, str, str, int]) -> tuple[str, str]:
    return run_name(*label[1:]), run_name(*label)


def everything() -> list[RunFolder]:
    """All runs, ordered by label, at the end those that no study asks for any more.

    Those of another version are passed over, and told of.
    """
    return _in_order(_folders())


def _in_order(folders: Iterable[Path]) -> list[RunFolder]:
    found: list[RunFolder] = []
    others: list[str] = []
    for folder in folders:
        try:
            found.append(RunFolder.open(folder))
        except OtherVersion as error:
            others.append(str(error))
    if others:
        _say_once(f"note: {len(others)} runs of another version are passed over, such as {others[0]}")
    return sorted(found, key=lambda run: (not run.labels, run.labels[:1], run.path.name))


@cache
def _say_once(told: str) -> None:
    print(told, file=sys.stderr)


def _folders() -> list[Path]:
    return [path.parent for path in sorted((RESULTS / "runs").glob("*/config.json"))]


def _record(path: Path) -> dict[str, Any]:
    """The content of a run's config.json."""
    record: dict[str, Any] = read_json(path / "config.json", REMEDY)
    if identity.digest(record) != path.name:
        raise Damaged(f"{path}/config.json: altered, its digest is not {path.name}; {REMEDY}")
    return record
