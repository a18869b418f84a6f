"""Corpus -> vocabulary -> shards -> weights: each as an artifact, named and described by its digests."""

from pathlib import Path
from typing import Any, NamedTuple

from mlm.errors import Damaged
from mlm.files import file_sha256, read_json
from mlm.runs import RunFolder


class Artifact(NamedTuple):
    """An artifact of W&B; its name says its content, so a name has one version unless told."""

    name: str
    type: str
    metadata: dict[str, Any]
    files: dict[str, Path]
    """Name in the artifact -> file. Text of a corpus is never among them."""

    def record(self) -> dict[str, Any]:
        """What two equal artifacts share."""
        files = {name: file_sha256(path) for name, path in self.files.items()}
        return {"name": self.name, "metadata": self.metadata, "files": files}


class Step(NamedTuple):
    """Something that was made from artifacts."""

    inputs: list[str]
    output: Artifact


def of_data(run: RunFolder) -> list[Step]:
    """The steps before a run's training, in their order; as far as their results are there.

    Raises:
        Damaged: one of their manifests is not what was written.
    """
    corpus, shards = run.corpus / "corpus.json", run.shards / "shards.json"
    if not shards.exists():
        return []
    remedy = "delete its folder and run the pipeline again"
    told, encoded, read = read_json(corpus, remedy), read_json(shards, remedy), corpus
    try:
        sha256 = {split: counts["sha256"] for split, counts in told["splits"].items()}
        text = {"title": told["title"], "licence": told["licence"], "sha256": sha256}
        read = shards
        tokens = {split: counts["tokens_sha256"] for split, counts in encoded["splits"].items()}
        pieces = {"sha256": encoded["vocabulary_sha256"], "size": encoded["vocabulary_size"]}
    except (KeyError, TypeError, AttributeError):
        raise Damaged(f"{read}: damaged, not what preparing writes; {remedy}") from None
    made = [
        Artifact(run.corpus.name, "corpus", text, {"corpus.json": corpus}),
        Artifact(run.vocabulary.parent.name, "vocabulary", pieces, {"vocabulary.model": run.vocabulary}),
        Artifact(f"shards-{run.shards.name}", "shards", {"sha256": tokens}, {"shards.json": shards}),
    ]
    return [Step([before.name for before in made[:number]], artifact) for number, artifact in enumerate(made)]


def weights(run: RunFolder, outcome: dict[str, Any], upload: bool) -> Artifact:
    """What training left; the weights themselves only where they are to be uploaded."""
    names = ["config.json", "run.json", *(["weights.safetensors"] if upload else [])]
    return Artifact(
        f"weights-{run.path.name}",
        "model",
        {"sha256": outcome["files"]["weights.safetensors"], "run": run.path.name},
        {name: run.path / name for name in names},
    )
