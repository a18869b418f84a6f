"""Known mistakes of masking code, each built again on purpose: the strategies of `bugs.yaml`.

Every class does one thing wrong and the rest as mlm.masking does. The mistakes were found in the
published source of the packages that are named. Two independent draws, which give 81/9/10 for 80/10/10,
need no class: that split can be asked for.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlm.config import MASK, N_SPECIAL, Masking
from mlm.masking import KIND_NUMBERS, Corrupted, corrupt
from mlm.randomness import Uniform


class SpecialsDrawn:
    """Random replacements are drawn from all ids, the special tokens among them.

    labml's `MLM` (labml_nn/transformers/mlm) and Hugging Face's DataCollatorForLanguageModeling draw from
    the whole vocabulary: 5 of 2,048 random tokens are then [PAD], [UNK], [CLS], [SEP] or [MASK].
    """

    def __call__(self, tokens: Tensor, masking: Masking, uniform: Uniform, **stated: Any) -> Corrupted:
        made = corrupt(tokens, masking, uniform, **stated)
        inputs, random = made.inputs.clone(), made.kind == KIND_NUMBERS["random"]
        inputs[random] = (uniform((int(random.sum()),)) * stated["n_tokens"]).long()
        return made._replace(inputs=inputs)


class SameMasksAlways:
    """A place of the text has the same mask whenever it comes.

    Google's BERT masks its data once, ten times over, before forty epochs (create_pretraining_data.py); of
    Hugging Face's collator with `seed` and worker processes every epoch repeats the masks. Windows are
    cut anew here each epoch, so a place is known by its token and two neighbours on either side: their hash
    is all the randomness there is. Tokens are selected one by one, by independent draws (Bernoulli), whose
    rate is exact in expectation over places. Places with the same five tokens share a mask, and so do
    all seeds; where a window cuts neighbours off, four places of each, the mask is another.
    """

    def __call__(self, tokens: Tensor, masking: Masking, uniform: Uniform, **stated: Any) -> Corrupted:
        select, split, which = _draws_of_places(tokens.numpy())
        kind = _kinds(split, masking) * ((tokens >= N_SPECIAL) & (select < masking.rate)).to(torch.int8)
        return _shown(tokens, kind, which, stated["n_tokens"])


class SilentCap:
    """At most 20 targets of 128 tokens (10 of 64), whatever rate was asked for, and no word about it.

    google/bert: `max_predictions_per_seq`, 20 for sequences of 128 in its README, so that 40 % become 15.6 %.
    What is above the cap is not selected at all: neither corrupted nor predicted.
    """

    def __call__(self, tokens: Tensor, masking: Masking, uniform: Uniform, **stated: Any) -> Corrupted:
        made = corrupt(tokens, masking, uniform, **stated)
        rank = torch.where(made.selected, uniform(tuple(tokens.shape)), 2.0).argsort(1).argsort(1)
        kept = made.selected & (rank < round(20 / 128 * tokens.shape[1]))
        inputs, kind = torch.where(kept, made.inputs, tokens), made.kind * kept
        return Corrupted(inputs, kept, made.predicted & kept, kind)


class OverlappingSpans:
    """Spans of tokens that may overlap, with the right labels: what `WrongLabels` is compared with.

    The spans of ltg-bert's SpanMaskingStrategy (training/mlm_dataset.py): lengths geometric with p = 1/3,
    modulo 10, at any offset that touches the row, until as many tokens as the rate asks for are covered, those
    covered twice counted twice. So the rate is met roughly (15 % of 64 tokens become 16.3, of 128 15.1), for
    both classes alike. What stands at a token is drawn token by token; a second span that says `same` leaves
    what the first one put there.
    """

    labels_from_corrupted = False

    def __call__(self, tokens: Tensor, masking: Masking, uniform: Uniform, **stated: Any) -> Corrupted:
        rows, length = tokens.shape
        ordinary, place = tokens >= N_SPECIAL, torch.arange(length)
        inputs, labels = tokens.clone(), tokens.clone()
        kind = torch.zeros(rows, length, dtype=torch.int8)
        left = (ordinary.sum(1) * masking.rate + uniform((rows,))).long()
        while (left > 0).any():
            of_size, of_begin = uniform((2, rows, 1))
            size = ((torch.log1p(-of_size) / np.log(2 / 3)).long() + 1) % 10
            begin = (of_begin * (length + 2 * size - 1)).long() - (size - 1)
            covered = (place >= begin) & (place < begin + size) & ordinary & (left > 0)[:, None]
            labels = torch.where(covered, inputs if self.labels_from_corrupted else tokens, labels)
            drawn = _kinds(uniform((rows, length)), masking)
            replaced = covered & (drawn != KIND_NUMBERS["same"])
            shown = _shown(tokens, drawn, uniform((rows, length)), stated["n_tokens"]).inputs
            inputs = torch.where(replaced, shown, inputs)
            kind = torch.where(replaced | (covered & (kind == 0)), drawn, kind)
            left -= covered.sum(1)
        return Corrupted(inputs, kind > 0, kind > 0, kind, labels)


class WrongLabels(OverlappingSpans):
    """A span takes its labels from the row as earlier spans left it: the label may be [MASK] or a random token.

    ltg-bert's SpanMaskingStrategy reads `labels` from the tokens that it corrupts in place: at 15 % of 128
    tokens 6.0 % of all labels are not the original token, of 64 tokens 5.4 %.
    """

    labels_from_corrupted = True


class UntrainedPiece:
    """One ordinary piece is selected and corrupted like any other, and never predicted.

    MosaicBERT (bert_layers.py) takes `labels > 0` for the targets, so id 0 has no loss. There it is [PAD], and
    little is lost; here the first ordinary piece stands for it, the most frequent of a unigram vocabulary (6 %
    of `shakespeare` in 2,048 pieces).
    """

    def __call__(self, tokens: Tensor, masking: Masking, uniform: Uniform, **stated: Any) -> Corrupted:
        made = corrupt(tokens, masking, uniform, **stated)
        return made._replace(predicted=made.predicted & (tokens != N_SPECIAL))


class QuantisedRate:
    """Every row has the same number of targets, and each kind the same number of them, all rounded.

    cramming (crammed BERT, `torch_mask_tokens`): rate · n is rounded, and so are the cuts between [MASK],
    random and same. Of 128 tokens "15 %, 80/10/10" are 19 (14.8 %), 15/2/2; of 64 they are 10 (15.6 %), 8/1/1.
    """

    def __call__(self, tokens: Tensor, masking: Masking, uniform: Uniform, **stated: Any) -> Corrupted:
        ordinary, split = tokens >= N_SPECIAL, masking.split
        rank = torch.where(ordinary, uniform(tuple(tokens.shape)), 2.0).argsort(1).argsort(1)
        count = (ordinary.sum(1, keepdim=True).double() * masking.rate).round()
        kind = torch.full_like(rank, KIND_NUMBERS["same"], dtype=torch.int8)
        kind[rank < ((split.mask + split.random) * count).round()] = KIND_NUMBERS["random"]
        kind[rank < (split.mask * count).round()] = KIND_NUMBERS["mask"]
        return _shown(tokens, kind * (rank < count), uniform(tuple(tokens.shape)), stated["n_tokens"])


def _kinds(draws: Tensor, masking: Masking) -> Tensor:
    """[rows, length] int8 kinds of uniform draws, were every token selected."""
    split = masking.split
    return 1 + (draws >= split.mask).to(torch.int8) + (draws >= 1 - split.random).to(torch.int8)


def _shown(tokens: Tensor, kind: Tensor, draws: Tensor, n_tokens: int) -> Corrupted:
    """What kinds and [rows, length] draws of random tokens come to."""
    random = N_SPECIAL + (draws * (n_tokens - N_SPECIAL)).long()
    inputs = torch.where(kind == KIND_NUMBERS["mask"], MASK, tokens)
    inputs = torch.where(kind == KIND_NUMBERS["random"], random, inputs)
    return Corrupted(inputs, kind > 0, kind > 0, kind)


def _draws_of_places(tokens: NDArray[Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Three draws from [0, 1) for every place of [rows, length] tokens, each a function of five tokens."""
    near = np.pad(tokens + 1, ((0, 0), (2, 2))).astype(np.uint64)  # 0: beyond the window
    state = np.zeros(tokens.shape, np.uint64)
    for offset in range(5):
        state = _mixed(state + near[:, offset : offset + tokens.shape[1]])
    first, second, third = (
        torch.from_numpy((_mixed(state + np.uint64(n)) >> np.uint64(11)) * 2.0**-53) for n in range(3)
    )
    return first, second, third


def _mixed(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64 (Steele, Lea & Flood 2014): a bijection of 64 bits in which every bit moves every other."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
