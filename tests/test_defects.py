"""Each known mistake is made in the documented proportion, and nothing else is."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from experiments import defects
from mlm import config, masking, plugins
from mlm.masking import Corrupted, corrupt
from mlm.randomness import Purpose, Uniform, generator, uniform

LEVEL = 1e-6  # of every test of a proportion; seeds are fixed, so a law that holds stays green
NAMES = (
    "SpecialsDrawn",
    "SameMasksAlways",
    "SilentCap",
    "OverlappingSpans",
    "WrongLabels",
    "UntrainedPiece",
    "QuantisedRate",
)


def asked(rate: float = 0.15, mask: float = 0.8, same: float = 0.1, random: float = 0.1) -> config.Masking:
    return config.Masking(rate=rate, split=config.Split(mask=mask, same=same, random=random))


def draws(seed: int = 0) -> Uniform:
    return uniform(generator(seed, Purpose.MASKING))


def text(rows: int, length: int, n_tokens: int, seed: int = 1, first: int = config.N_SPECIAL) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(first, n_tokens, (rows, length)))


def made_by(name: str, tokens: torch.Tensor, stated: config.Masking, n_tokens: int, seed: int = 0) -> Corrupted:
    strategy = getattr(defects, name)()
    begins_word = torch.ones(n_tokens, dtype=torch.bool)
    made = strategy(tokens, stated, draws(seed), n_tokens=n_tokens, begins_word=begins_word, step=0)
    assert isinstance(made, Corrupted)
    return made


def counts(kind: torch.Tensor) -> np.ndarray[Any, Any]:
    return torch.bincount(kind.flatten(), minlength=4).numpy()


def as_asked(found: np.ndarray[Any, Any], shares: list[float]) -> bool:
    return bool(stats.chisquare(found, np.array(shares) / sum(shares) * found.sum()).pvalue > LEVEL)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_a_strategy_of_this_repository(name: str) -> None:
    stated = config.Masking(strategy=f"experiments.defects:{name}")
    plugins.check(config.Run(masking=stated), "here")
    tokens = text(4, 64, 90, first=0)
    made = masking.strategy(stated)(
        tokens, stated, draws(), n_tokens=90, begins_word=torch.ones(90, dtype=torch.bool), step=0
    )
    assert torch.equal(made.inputs, made_by(name, tokens, stated, 90).inputs)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(NAMES),
    rows=st.integers(1, 4),
    length=st.integers(2, 40),
    rate=st.floats(0, 1),
    split=st.sampled_from(
        [(0.8, 0.1, 0.1), (1.0, 0.0, 0.0), (0.0, 0.2, 0.8), (0.8, 0.0, 0.2), (0.0, 1.0, 0.0)]
    ),
    seed=st.integers(0, 2**32),
)
def test_what_holds_for_all_of_them(
    name: str, rows: int, length: int, rate: float, split: tuple[float, float, float], seed: int
) -> None:
    tokens = text(rows, length, 30, seed, first=0)
    before = tokens.clone()
    made = made_by(name, tokens, asked(rate, *split), 30, seed)
    assert torch.equal(tokens, before)
    assert not (made.selected & (tokens < config.N_SPECIAL)).any()
    assert torch.equal(made.kind > 0, made.selected)
    assert not (made.predicted & ~made.selected).any()
    assert (made.inputs[made.kind == 1] == config.MASK).all()
    kept = (made.kind == 0) | (made.kind == 2)
    assert torch.equal(made.inputs[kept], tokens[kept])
    least = 0 if name == "SpecialsDrawn" else config.N_SPECIAL
    random = made.inputs[made.kind == 3]
    assert ((random >= least) & (random < 30)).all()
    assert set(made.kind.unique().tolist()) <= {0} | {k + 1 for k, share in enumerate(split) if share > 0}
    if made.labels is not None and name != "WrongLabels":
        assert torch.equal(made.labels, tokens)


def test_specials_are_drawn_as_often_as_any_id_and_only_there() -> None:
    tokens = text(2000, 128, 50)
    made = made_by("SpecialsDrawn", tokens, asked(0.4, 0.5, 0.1, 0.4), 50)
    right = corrupt(tokens, asked(0.4, 0.5, 0.1, 0.4), draws(), n_tokens=50)
    random = made.kind == 3
    found = np.bincount(made.inputs[random].numpy(), minlength=50)
    assert as_asked(found, [1 / 50] * 50)  # so 5 of n_tokens are special
    assert torch.equal(made.kind, right.kind) and torch.equal(made.predicted, right.predicted)
    assert torch.equal(made.inputs[~random], right.inputs[~random])


def test_a_place_has_the_same_mask_whatever_window_epoch_or_seed_it_comes_in() -> None:
    stream = text(1, 64 * 300 + 64, 60)[0]

    def laid_out(phase: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        made = made_by("SameMasksAlways", stream[phase : phase + 64 * 300].view(-1, 64), asked(), 60, seed)
        whole = torch.full((2, len(stream)), -1)  # inputs and kinds of the places with all their neighbours
        for row, part in zip(whole, (made.inputs, made.kind), strict=True):
            inner = torch.full((300, 64), -1)
            inner[:, 2:-2] = part[:, 2:-2].long()
            row[phase : phase + 64 * 300] = inner.flatten()
        return whole[0], whole[1]

    (inputs, kinds), (others, other_kinds) = laid_out(0, 0), laid_out(23, 1)
    both = (kinds >= 0) & (other_kinds >= 0)
    assert both.float().mean() > 0.85
    assert torch.equal(inputs[both], others[both]) and torch.equal(kinds[both], other_kinds[both])


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_the_same_masks_meet_rate_and_split_over_places(rate: float) -> None:
    tokens, stated = text(4000, 128, 2048), asked(rate)
    made = made_by("SameMasksAlways", tokens, stated, 2048)
    found = counts(made.kind)
    assert stats.binomtest(int(found[1:].sum()), int(found.sum()), rate).pvalue > LEVEL
    assert as_asked(found[1:], [0.8, 0.1, 0.1])
    assert as_asked(np.bincount(made.inputs[made.kind == 3].numpy(), minlength=2048)[5:], [1.0] * 2043)
    assert as_asked(made.selected.sum(0).numpy(), [1.0] * 128)
    # A neighbour's mask tells nothing, and nor does the mask of a place that one neighbour sets apart.
    pairs = made.selected[:, ::2] & made.selected[:, 1::2]
    assert stats.binomtest(int(pairs.sum()), pairs.numel(), rate**2).pvalue > LEVEL
    for shift in range(-2, 3):
        changed = tokens.clone()
        changed[:, 64 + shift] = (changed[:, 64 + shift] - 4) % 2043 + 5
        other = made_by("SameMasksAlways", changed, stated, 2048)
        alike = (made.selected[:, 64] == other.selected[:, 64]).sum()
        assert stats.binomtest(int(alike), 4000, rate**2 + (1 - rate) ** 2).pvalue > LEVEL
        assert torch.equal(made.kind[:, :60], other.kind[:, :60])


@pytest.mark.parametrize(("length", "most"), [(128, 20), (64, 10), (512, 80)])
def test_the_cap_holds_in_every_row_and_changes_nothing_below_it(length: int, most: int) -> None:
    rows = 200_000 // length
    tokens = text(rows, length, 101)
    made = made_by("SilentCap", tokens, asked(0.4), 101)
    assert (made.selected.sum(1) == most).all() and most / length == 0.15625
    assert torch.equal(made.predicted, made.selected)
    assert as_asked(counts(made.kind)[1:], [0.8, 0.1, 0.1])
    assert as_asked(made.selected.sum(0).numpy(), [1.0] * length)
    below, right = asked(0.1), corrupt(tokens, asked(0.1), draws(), n_tokens=101)
    for part, whole in zip(made_by("SilentCap", tokens, below, 101)[:4], right[:4], strict=True):
        assert torch.equal(part, whole)


def one_by_one(row: list[int], rate: float, source: np.random.Generator) -> tuple[int, int]:
    """Targets and wrong labels of a row under overlapping spans: token by token, as one would by hand."""
    shown, labels = list(row), {}
    left = math.floor(rate * len(row) + source.random())
    while left > 0:
        size = source.geometric(1 / 3) % 10
        begin = source.integers(-(size - 1), len(row) + size)
        for place in range(max(begin, 0), min(begin + size, len(row))):
            labels[place] = shown[place]
            left -= 1
            luck = source.random()
            if luck < 0.8:
                shown[place] = config.MASK
            elif luck >= 0.9:
                shown[place] = int(source.integers(config.N_SPECIAL, 2048))
    return len(labels), sum(label != row[place] for place, label in labels.items())


def test_overlapping_spans_give_the_wrong_labels_of_a_plain_loop_6_per_cent_of_them() -> None:
    tokens = text(4000, 128, 2048)
    made = made_by("WrongLabels", tokens, asked(), 2048)
    assert made.labels is not None
    wrong = made.predicted & (made.labels != tokens)
    share = int(wrong.sum()) / int(made.predicted.sum())
    assert share == pytest.approx(0.061, abs=0.004)  # what was counted in ltg-bert itself
    source = np.random.default_rng(0)
    targets, mistakes = np.array([one_by_one(row, 0.15, source) for row in tokens.tolist()]).T
    per_row = made.predicted.sum(1).numpy(), wrong.sum(1).numpy()
    assert stats.ttest_ind(per_row[0], targets).pvalue > LEVEL
    assert stats.ttest_ind(per_row[1], mistakes).pvalue > LEVEL
    # A wrong label is what an earlier span put there: [MASK] eight times in nine.
    masks = int((made.labels[wrong] == config.MASK).sum())
    assert stats.binomtest(masks, int(wrong.sum()), 8 / 9).pvalue > LEVEL
    assert torch.equal(made.labels[~wrong], tokens[~wrong])


def test_wrong_labels_differ_from_their_partner_in_labels_alone() -> None:
    tokens = text(300, 64, 2048)
    wrong, right = (made_by(name, tokens, asked(), 2048) for name in ("WrongLabels", "OverlappingSpans"))
    for part, other in zip(wrong[:4], right[:4], strict=True):
        assert torch.equal(part, other)
    assert right.labels is not None and torch.equal(right.labels, tokens)
    unchanged = made_by("WrongLabels", tokens, asked(0.4, 0.0, 1.0, 0.0), 2048)  # nothing to copy wrongly
    assert unchanged.labels is not None and torch.equal(unchanged.labels, tokens)


def test_the_untrained_piece_is_corrupted_as_ever_and_never_a_target() -> None:
    tokens = text(1000, 64, 20)
    made = made_by("UntrainedPiece", tokens, asked(), 20)
    right = corrupt(tokens, asked(), draws(), n_tokens=20)
    for name in ("inputs", "selected", "kind"):
        assert torch.equal(getattr(made, name), getattr(right, name))
    piece = tokens == config.N_SPECIAL
    assert (made.selected & piece).any()
    assert torch.equal(made.predicted, right.predicted & ~piece)


@pytest.mark.parametrize(
    ("length", "rate", "kinds"),
    [(128, 0.15, (15, 2, 2)), (64, 0.15, (8, 1, 1)), (64, 0.4, (21, 3, 2)), (512, 0.15, (62, 8, 7))],
)
def test_rounded_counts_are_the_same_in_every_row(
    length: int, rate: float, kinds: tuple[int, int, int]
) -> None:
    rows = 100_000 // length
    tokens = text(rows, length, 101)
    made = made_by("QuantisedRate", tokens, asked(rate), 101)
    for number, count in enumerate(kinds, start=1):
        assert set((made.kind == number).sum(1).tolist()) == {count}
    assert torch.equal(made.predicted, made.selected)
    for chosen in (made.selected, made.kind == 1):
        assert as_asked(chosen.sum(0).numpy(), [1.0] * length)
    assert as_asked(np.bincount(made.inputs[made.kind == 3].numpy(), minlength=101)[5:], [1.0] * 96)
