"""run.json: what a run came to, and where it came from."""

from typing import Any

from mlm import compiled, log_head, machine, memory, sources
from mlm.files import file_sha256, read_json, write_json
from mlm.layout import kept_weights
from mlm.runs import RunFolder

WRITTEN = ("weights.safetensors", "metrics.jsonl")


def write(
    run: RunFolder, trained: dict[str, Any], wall_seconds: float, device: str, code: str
) -> dict[str, Any]:
    """Write run.json, the last file of a run: from then on it has ended.

    Args:
        code: what the code that trained is called; not as planned where a change was accepted.
    """
    shards = read_json(run.shards / "shards.json", f"delete {run.shards} and run again")
    corpus = read_json(run.corpus / "corpus.json", f"delete {run.corpus} and run again")
    outcome = {
        "digest": run.path.name,
        **trained,
        "wall_seconds": round(wall_seconds, 3),
        "peak_memory_bytes": memory.peak_bytes(),
        "files": {name: file_sha256(run.path / name) for name in (*WRITTEN, *_kept(run, trained["steps"]))},
        "code": code,
        "git": log_head.git(),
        "versions": log_head.versions() | _compiler(run),
        "device": device,
        "machine": machine.record(),
        "inputs": {
            "corpus_sha256": shards["corpus_sha256"],
            "vocabulary_sha256": shards["vocabulary_sha256"],
            "manifests_sha256": {
                "corpus": file_sha256(run.corpus / "corpus.json"),
                "shards": file_sha256(run.shards / "shards.json"),
            },
        },
        "data": {
            "corpus": {
                "title": corpus["title"],
                "licence": corpus["licence"],
                "sources": sources.statement(corpus),
                "splits": {
                    split: {**{k: v for k, v in counts.items() if k != "sha256"},
                            "tokens": shards["splits"][split]["tokens"]}
                    for split, counts in corpus["splits"].items()
                },
            }
        },
    }  # fmt: skip
    write_json(run.path / "run.json", outcome)
    return outcome


def _compiler(run: RunFolder) -> dict[str, str]:
    """Of compiled steps: what compiled them, which decides their bits too."""
    return {"compiler": compiled.compiler()} if run.numerics.path == "compiled" else {}


def _kept(run: RunFolder, steps: int) -> list[str]:
    kept = (kept_weights(run.path, step) for step in run.config.kept_steps if step <= steps)
    return [str(path.relative_to(run.path)) for path in kept]
