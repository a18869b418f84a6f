"""[MASK] -> what a model would write there."""

from typing import Any, NamedTuple

import torch

from mlm import config
from mlm.encoder import Encoder
from mlm.randomness import Purpose, generator
from mlm.vocabulary import Tokenizer


class Fill(NamedTuple):
    """One filled position."""

    position: int
    original: int | None
    """The token that was masked, where it is known."""
    candidates: list[tuple[int, float]]
    """(token, probability), best first."""


def encode_prompt(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text in which "[MASK]" stands for the mask token."""
    ids: list[int] = []
    *before, last = text.split("[MASK]")
    if not tokenizer.keeps_line_ends:  # the blank before a word is a part of its token, and so of a mask
        before = [segment.rstrip() for segment in before]
    for number, segment in enumerate([*before, last]):
        if number:
            ids.append(config.MASK)
        if segment:
            ids.extend(tokenizer.encode_joined(segment) if number else tokenizer.encode(segment))
    return ids


def mask_prompt(tokenizer: Tokenizer, text: str, number: int) -> tuple[list[int], list[int]]:
    """(ids, masked positions) of a fixed prompt: always the same positions, 15 % and at least one."""
    ids = tokenizer.encode(text)
    wanted = min(len(ids), max(1, round(0.15 * len(ids))))
    order = generator(0, Purpose.PROMPTS, number).permutation(len(ids))
    return ids, sorted(int(i) for i in order[:wanted])


@torch.no_grad()
def fill(encoder: Encoder, ids: list[int], originals: dict[int, int], candidates: int = 1) -> list[Fill]:
    """Predict every [MASK] of one sequence; a causal encoder from what stands to its left.

    Args:
        ids: token ids of the sequence.
        originals: position -> token that was there, where it is known.
        candidates: how many tokens to return a position.
    """
    device = encoder.embedding.device
    masked = [place for place, token in enumerate(ids) if token == config.MASK]
    if encoder.pattern.causal:
        # It has never seen [MASK]: what it fills in first, or what was there, is its context for the next.
        shown, rows = [config.SEP, *ids], []
        for place in masked:
            rows.append(encoder(torch.tensor([shown[: place + 1]], device=device))[0, -1])
            best = int(rows[-1][config.N_SPECIAL :].argmax()) + config.N_SPECIAL
            shown[place + 1] = originals.get(place, best)
        logits = torch.stack(rows).float() if rows else torch.empty(0, encoder.n_tokens)
    else:
        logits = encoder(torch.tensor([ids], device=device))[0, masked].float()
    logits[:, : config.N_SPECIAL] = -torch.inf  # a special token is no word
    likeliest = logits.softmax(-1).topk(candidates)
    found = zip(masked, likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
    return [Fill(i, originals.get(i), list(zip(tokens, p, strict=True))) for i, tokens, p in found]


def fill_prompts(encoder: Encoder, tokenizer: Tokenizer, prompts: list[str]) -> list[dict[str, Any]]:
    """The fixed prompts, masked at their frozen positions and filled; a record for metrics.jsonl."""
    records = []
    for number, text in enumerate(prompts):
        ids, masked = mask_prompt(tokenizer, text, number)
        if not ids or len(ids) > encoder.options.max_positions:
            continue
        shown = [config.MASK if i in masked else token for i, token in enumerate(ids)]
        fills = fill(encoder, shown, {i: ids[i] for i in masked})
        records.append(
            {
                "pieces": [tokenizer.pieces[i] for i in ids],
                "fills": [
                    {"position": f.position, "piece": tokenizer.pieces[f.candidates[0][0]],
                     "probability": round(f.candidates[0][1], 4)}
                    for f in fills
                ],
            }
        )  # fmt: skip
    return records
