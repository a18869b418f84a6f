"""The corruption asked for is the corruption drawn, and nothing else is touched."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mlm import config
from mlm.masking import MLM, Corrupted, corrupt
from mlm.randomness import Purpose, generator, uniform
from mlm.selection import select_tokens

LEVEL = 1e-6  # of every test of a proportion; seeds are fixed, so a law that holds stays green
N_TOKENS = 101
C2 = ("80/10/10", "100/0/0", "80/0/20", "80/20/0", "0/20/80", "0/0/100")  # BERT's table, MASK/SAME/RND
SELECTIONS = ("exact", "bernoulli")


def masking(split: str = "80/10/10", rate: float = 0.15, selection: str = "exact") -> config.Masking:
    shares = dict(
        zip(("mask", "same", "random"), (int(share) / 100 for share in split.split("/")), strict=True)
    )
    return config.Masking.model_validate({"rate": rate, "selection": selection, "split": shares})


def draws(seed: int = 0, step: int = 0):
    return uniform(generator(seed, Purpose.MASKING, step))


def ordinary(rows: int, length: int, n_tokens: int = N_TOKENS, seed: int = 1) -> torch.Tensor:
    numbers = np.random.default_rng(seed).integers(config.N_SPECIAL, n_tokens, (rows, length))
    return torch.from_numpy(numbers)


def counts_of_kinds(asked: config.Masking, rows: int, length: int) -> np.ndarray:
    """Realised counts of mask, same, random, over as many batches as come to 10⁶ selected tokens."""
    tokens, found = ordinary(rows, length), np.zeros(4, np.int64)
    for step in itertools.count():
        result = corrupt(tokens, asked, draws(step=step), n_tokens=N_TOKENS)
        found += torch.bincount(result.kind.flatten(), minlength=4).numpy()
        if found[1:].sum() >= 10**6:
            return found[1:]
    raise AssertionError


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize(
    ("split", "rate"), [*((row, 0.4) for row in C2), ("81/9/10", 0.4), ("80/10/10", 0.15), ("80/10/10", 0.05)]
)
def test_the_split_asked_for_is_the_split_drawn(split: str, rate: float, selection: str) -> None:
    asked = masking(split, rate, selection)
    found = counts_of_kinds(asked, 8192, 128)
    wanted = np.array([asked.split.mask, asked.split.same, asked.split.random])
    assert (found[wanted == 0] == 0).all()
    if (wanted > 0).sum() > 1:
        share = wanted[wanted > 0]
        assert stats.chisquare(found[wanted > 0], share / share.sum() * found.sum()).pvalue > LEVEL


def test_the_law_can_tell_two_independent_draws_from_one() -> None:
    """The known mistake, 81/9/10 for 80/10/10, would fail the test above."""
    found = counts_of_kinds(masking("81/9/10", 0.4), 8192, 128)
    assert stats.chisquare(found, np.array([0.8, 0.1, 0.1]) * found.sum()).pvalue < LEVEL


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("rate", [0.05, 0.15, 0.4])
@pytest.mark.parametrize("length", [1, 2, 7, 64, 128])
def test_the_rate_is_realised_at_any_length(rate: float, length: int, selection: str) -> None:
    rows = 400_000 // length
    tokens = ordinary(rows, length)
    selected = corrupt(tokens, masking(rate=rate, selection=selection), draws(), n_tokens=N_TOKENS).selected
    counts = selected.sum(1).double()
    fraction = rate * length - math.floor(rate * length)
    variance = fraction * (1 - fraction) if selection == "exact" else length * rate * (1 - rate)
    # Five standard errors of the mean of independent rows.
    assert abs(float(counts.mean()) - rate * length) <= 5 * math.sqrt(variance / rows) + 1e-9
    if selection == "exact":
        assert set(counts.tolist()) <= {math.floor(rate * length + 1e-9), math.ceil(rate * length - 1e-9)}


@given(
    rows=st.integers(1, 5),
    length=st.integers(1, 40),
    rate=st.floats(0, 1),
    seed=st.integers(0, 2**40),
    selection=st.sampled_from(SELECTIONS),
    split=st.sampled_from([*C2, "81/9/10"]),
)
def test_laws_of_one_batch(rows: int, length: int, rate: float, seed: int, selection: str, split: str) -> None:
    tokens = torch.from_numpy(np.random.default_rng(seed).integers(0, 30, (rows, length)))
    before = tokens.clone()
    result = corrupt(tokens, masking(split, rate, selection), draws(seed), n_tokens=30)
    special = tokens < config.N_SPECIAL
    assert torch.equal(tokens, before)
    assert result.inputs.dtype == torch.int64
    assert not (result.selected & special).any()
    assert torch.equal(result.kind > 0, result.selected)
    assert torch.equal(result.inputs[result.kind == 0], tokens[result.kind == 0])
    assert (result.inputs[result.kind == 1] == config.MASK).all()
    assert torch.equal(result.inputs[result.kind == 2], tokens[result.kind == 2])
    random = result.inputs[result.kind == 3]
    assert ((random >= config.N_SPECIAL) & (random < 30)).all()
    if selection == "exact":
        for row in range(rows):
            n = int((~special[row]).sum())
            assert math.floor(rate * n) <= int(result.selected[row].sum()) <= min(n, math.floor(rate * n + 1))


def test_rate_one_selects_all_and_rate_zero_nothing() -> None:
    tokens = ordinary(50, 9)
    tokens[:, ::4] = config.SEP
    for selection in SELECTIONS:
        everything = corrupt(tokens, masking(rate=1.0, selection=selection), draws(), n_tokens=N_TOKENS)
        assert torch.equal(everything.selected, tokens != config.SEP)
        nothing = corrupt(tokens, masking(rate=0.0, selection=selection), draws(), n_tokens=N_TOKENS)
        assert not nothing.selected.any()
        assert torch.equal(nothing.inputs, tokens)


@pytest.mark.parametrize("selection", SELECTIONS)
def test_selection_is_uniform_over_positions(selection: str) -> None:
    tokens = ordinary(60_000, 17)
    tokens[:, 5] = config.CLS
    selected = corrupt(tokens, masking(rate=0.3, selection=selection), draws(), n_tokens=N_TOKENS).selected
    found = selected.sum(0).numpy()
    assert found[5] == 0
    found = np.delete(found, 5)
    # Exact counts within a row are negatively correlated: the statistic is then below chi-square's.
    assert stats.chisquare(found).pvalue > LEVEL


def test_exact_selects_every_pair_of_positions_alike() -> None:
    """Without replacement and without a trace of order: all 21 pairs of 7 positions are as frequent."""
    selected = select_tokens(torch.ones(200_000, 7, dtype=torch.bool), 2 / 7, draws())
    assert (selected.sum(1) == 2).all()
    codes = (selected * 2 ** torch.arange(7)).sum(1).numpy()
    found = np.unique(codes, return_counts=True)[1]
    assert len(found) == 21
    assert stats.chisquare(found).pvalue > LEVEL


def test_random_tokens_are_uniform_over_the_ordinary_pieces() -> None:
    tokens = torch.full((8192, 128), 7)
    result = corrupt(tokens, masking("0/0/100", 0.4), draws(), n_tokens=N_TOKENS)
    found = torch.bincount(result.inputs[result.kind == 3], minlength=N_TOKENS).numpy()
    assert found[: config.N_SPECIAL].sum() == 0
    assert found[7] > 0  # may equal the original, and still counts as random
    assert stats.chisquare(found[config.N_SPECIAL :]).pvalue > LEVEL


def test_random_tokens_avoid_protected_ids_in_the_middle() -> None:
    tokens = torch.full((2000, 50), 3)
    protected = [0, 9, 11, 19]
    result = corrupt(tokens, masking("0/0/100", 1.0), draws(), n_tokens=20, mask_token=9, protected=protected)
    found = torch.bincount(result.inputs.flatten(), minlength=20).numpy()
    assert (found[protected] == 0).all()
    assert stats.chisquare(np.delete(found, protected)).pvalue > LEVEL


def test_random_does_not_depend_on_the_original_or_the_position() -> None:
    tokens = torch.where(torch.arange(4096)[:, None] % 2 == 0, 5, 6).expand(-1, 64).contiguous()
    result = corrupt(tokens, masking("0/0/100", 0.5), draws(), n_tokens=15)
    table = [
        torch.bincount(result.inputs[(result.kind == 3) & (tokens == original)], minlength=15)[5:].numpy()
        for original in (5, 6)
    ]
    assert stats.chi2_contingency(np.stack(table)).pvalue > LEVEL


def test_kinds_are_independent_of_the_number_selected_and_of_the_position() -> None:
    tokens = ordinary(40_000, 8)
    kind = corrupt(tokens, masking(rate=0.3), draws(), n_tokens=N_TOKENS).kind
    by_position = np.stack([torch.bincount(kind[:, i], minlength=4)[1:].numpy() for i in range(8)])
    assert stats.chi2_contingency(by_position).pvalue > LEVEL
    targets = (kind > 0).sum(1)
    by_number = np.stack(
        [torch.bincount(kind[targets == n].flatten(), minlength=4)[1:].numpy() for n in (2, 3)]
    )
    assert stats.chi2_contingency(by_number).pvalue > LEVEL


@pytest.mark.parametrize("selection", SELECTIONS)
def test_masks_are_a_function_of_seed_and_step(selection: str) -> None:
    tokens, asked = ordinary(64, 64), masking(selection=selection)

    def once(seed: int, step: int) -> Corrupted:
        return corrupt(tokens, asked, draws(seed, step), n_tokens=N_TOKENS)

    for one, other in zip(once(3, 9)[:4], once(3, 9)[:4], strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(once(3, 9).selected, once(3, 10).selected)
    assert not torch.equal(once(3, 9).selected, once(4, 9).selected)


def test_arms_that_differ_in_split_alone_select_the_same_positions() -> None:
    """Paired arms: only what stands in the place of a selected token differs."""
    tokens = ordinary(64, 64)
    chosen = [corrupt(tokens, masking(row), draws(), n_tokens=N_TOKENS).selected for row in C2]
    assert all(torch.equal(chosen[0], other) for other in chosen[1:])


def test_no_draw_from_torchs_default_generator() -> None:
    before = torch.random.get_rng_state()
    corrupt(ordinary(8, 8), masking(), draws(), n_tokens=N_TOKENS)
    assert torch.equal(before, torch.random.get_rng_state())


# The class with the well-known constructor


def well_known(**changes: object) -> MLM:
    options = {"padding_token": 0, "mask_token": 4, "no_mask_tokens": [1, 2, 3], "n_tokens": N_TOKENS}
    return MLM(**{**options, **changes})  # type: ignore[arg-type]


def kinds_of(x: torch.Tensor, inputs: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    """Targets shown as [MASK], unchanged, changed."""
    target = labels != 0
    masked, same = inputs[target] == 4, inputs[target] == x[target]
    return np.array([int(masked.sum()), int(same.sum()), int((~masked & ~same).sum())])


def test_mlm_is_sequence_first_and_labels_are_padding_where_there_is_no_target() -> None:
    x = ordinary(40, 7)
    x[30:, 2] = 0
    before = x.clone()
    inputs, labels = well_known(masking_prob=0.5)(x, generator=torch.Generator().manual_seed(1))
    assert torch.equal(x, before)
    assert inputs.shape == labels.shape == x.shape
    assert inputs.dtype == labels.dtype == torch.int64
    target = labels != 0
    assert 0 < int(target.sum()) < x.numel()
    assert torch.equal(labels[target], x[target])
    assert torch.equal(inputs[~target], x[~target])
    assert not target[30:, 2].any()


@pytest.mark.parametrize(
    ("randomize", "no_change"),
    [(0.1, 0.1), (0.0, 0.0), (0.2, 0.0), (0.0, 0.2), (0.8, 0.2), (1.0, 0.0), (0.1, 0.09)],
)
def test_mlm_meets_the_split_asked_for(randomize: float, no_change: float) -> None:
    mlm = well_known(masking_prob=0.4, randomize_prob=randomize, no_change_prob=no_change)
    x = ordinary(128, 20_000)
    inputs, labels = mlm(x, generator=torch.Generator().manual_seed(0))
    found = kinds_of(x, inputs, labels)
    assert found.sum() > 10**6
    stays = randomize / (N_TOKENS - config.N_SPECIAL)  # a random token that equals the original
    wanted = np.array([1 - randomize - no_change, no_change + stays, randomize - stays]) * found.sum()
    impossible = wanted < 1e-6
    assert (found[impossible] == 0).all()
    if (~impossible).sum() > 1:
        assert stats.chisquare(found[~impossible], wanted[~impossible]).pvalue > LEVEL


def test_mlm_seq_dim_only_says_which_way_the_batch_lies() -> None:
    x = ordinary(30, 11)
    mlm = well_known()
    first = mlm(x, generator=torch.Generator().manual_seed(5))
    second = mlm(x.T, generator=torch.Generator().manual_seed(5), seq_dim=1)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other.T)


def test_mlm_draws_from_the_generator_given_else_from_torchs_own() -> None:
    x, mlm = ordinary(64, 16), well_known()
    torch.manual_seed(7)
    default = mlm(x)
    torch.manual_seed(7)
    again = mlm(x)
    assert torch.equal(default[0], again[0])
    before = torch.random.get_rng_state()
    given_one = mlm(x, generator=torch.Generator().manual_seed(7))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(given_one[1], mlm(x, generator=torch.Generator().manual_seed(7))[1])
    assert not torch.equal(given_one[1], mlm(x, generator=torch.Generator().manual_seed(8))[1])


@given(
    protected=st.lists(st.integers(0, 19), max_size=12, unique=True),
    rate=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_mlm_never_selects_nor_draws_what_must_not_be_masked(
    protected: list[int], rate: float, seed: int
) -> None:
    x = torch.randint(0, 20, (9, 6), generator=torch.Generator().manual_seed(seed))
    mlm = MLM(padding_token=19, mask_token=18, no_mask_tokens=protected, n_tokens=20, masking_prob=rate,
              randomize_prob=0.5, no_change_prob=0.1)  # fmt: skip
    inputs, labels = mlm(x, generator=torch.Generator().manual_seed(seed))
    never = torch.tensor(sorted({*protected, 18, 19}))
    was_protected = torch.isin(x, never)
    assert torch.equal(inputs[was_protected], x[was_protected])
    assert (labels[was_protected] == 19).all()
    changed = inputs != x
    assert not torch.isin(inputs[changed & (inputs != 18)], never).any()


def test_mlm_passes_rows_of_padding_through() -> None:
    x = torch.zeros(12, 3, dtype=torch.int64)
    inputs, labels = well_known(masking_prob=1.0)(x)
    assert torch.equal(inputs, x)
    assert torch.equal(labels, x)


def test_mlm_leaves_its_list_alone_and_refuses_what_cannot_be() -> None:
    mine = [1, 2, 3]
    well_known(no_mask_tokens=mine)
    assert mine == [1, 2, 3]
    with pytest.raises(ValueError, match="every token"):
        well_known(no_mask_tokens=list(range(N_TOKENS)))
    with pytest.raises(ValueError, match="add up to 1"):
        well_known(randomize_prob=0.7, no_change_prob=0.7)
    for name in ("masking_prob", "randomize_prob", "no_change_prob"):
        with pytest.raises(ValueError, match=r"less than or equal|greater than or equal"):
            well_known(**{name: -0.1 if name == "masking_prob" else 1.5})
