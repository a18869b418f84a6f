"""The loss equals PyTorch's own over the full computation, also where there is little or nothing to predict."""

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from mlm.objectives import CrossEntropies, cross_entropies, mean_loss, target_positions


def problem(seed: int, rows: int, length: int, share: float):
    source = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, length, 13, generator=source, dtype=torch.float32) * 3
    tokens = torch.randint(0, 13, (rows, length), generator=source)
    selected = torch.rand(rows, length, generator=source) < share
    return logits.requires_grad_(), tokens, selected


def masked_loss(logits: torch.Tensor, targets: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    return mean_loss({"tokens": (cross_entropies(logits, targets) * real).sum()}, {"tokens": real.sum()})


def ours(logits: torch.Tensor, tokens: torch.Tensor, selected: torch.Tensor) -> torch.Tensor:
    at, real = target_positions(selected)
    chosen = logits.gather(1, at[:, :, None].expand(-1, -1, logits.shape[-1]))
    return masked_loss(chosen, tokens.gather(1, at), real)


problems = st.builds(
    problem,
    st.integers(0, 2**32),
    st.integers(1, 6),
    st.integers(1, 12),
    st.sampled_from([0.05, 0.3, 0.9, 1.0]),
)


@given(problems)
def test_loss_and_gradient_are_those_of_the_full_computation(given_problem) -> None:
    logits, tokens, selected = given_problem
    loss = ours(logits, tokens, selected)
    (gradient,) = torch.autograd.grad(loss, logits)
    if not selected.any():
        assert loss == 0
        assert (gradient == 0).all()
        return
    labels = torch.where(selected, tokens, -100)
    reference = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    (expected,) = torch.autograd.grad(reference, logits)
    torch.testing.assert_close(loss, reference, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-7)


@given(problems, st.integers(0, 1000))
def test_the_order_of_rows_does_not_matter(given_problem, seed: int) -> None:
    logits, tokens, selected = given_problem
    order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(seed))
    one, other = ours(logits, tokens, selected), ours(logits[order], tokens[order], selected[order])
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@given(problems)
def test_target_positions_are_the_selected_ones_in_order(given_problem) -> None:
    *_, selected = given_problem
    at, real = target_positions(selected)
    assert at.shape == real.shape
    assert at.shape[1] == max(1, int(selected.sum(1).max()))
    for row in range(len(selected)):
        assert at[row][real[row]].tolist() == selected[row].nonzero()[:, 0].tolist()


def test_a_batch_without_targets_has_loss_zero_and_zero_gradients() -> None:
    logits, tokens, selected = problem(0, 4, 9, 0.5)
    loss = ours(logits, tokens, torch.zeros_like(selected))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_what_stands_at_a_filler_changes_nothing() -> None:
    logits, tokens, selected = problem(1, 3, 8, 0.4)
    selected[0] = False
    selected[1, :5] = True
    at, real = target_positions(selected)
    chosen = logits.detach().gather(1, at[:, :, None].expand(-1, -1, 13)).requires_grad_()
    wrong = torch.where(real, tokens.gather(1, at), 0)
    loss = masked_loss(chosen, tokens.gather(1, at), real)
    assert torch.equal(loss, masked_loss(chosen, wrong, real))
    (gradient,) = torch.autograd.grad(loss, chosen)
    assert (gradient[~real] == 0).all()


def test_every_target_of_the_batch_weighs_the_same() -> None:
    """A row with four targets counts four times a row with one."""
    logits, tokens, selected = problem(2, 2, 6, 0.0)
    selected[0, :4], selected[1, 0] = True, True
    each = cross_entropies(logits, tokens)
    expected = (each[0, :4].sum() + each[1, 0]) / 5
    torch.testing.assert_close(ours(logits, tokens, selected), expected)


def test_the_compilers_cross_entropies_are_pytorchs_and_so_is_their_gradient() -> None:
    logits, tokens, _ = problem(4, 6, 5, 0.0)
    flat, targets = logits.detach().flatten(0, 1).requires_grad_(), tokens.flatten()
    weights = torch.rand(len(targets), generator=torch.Generator().manual_seed(0))
    expected = F.cross_entropy(flat, targets, reduction="none")
    found = CrossEntropies.apply(flat, targets)
    torch.testing.assert_close(found, expected)
    (theirs,) = torch.autograd.grad((expected * weights).sum(), flat)
    (mine,) = torch.autograd.grad((found * weights).sum(), flat)
    torch.testing.assert_close(mine, theirs)


def test_nats_of_a_uniform_guess() -> None:
    loss = ours(torch.zeros(2, 3, 13), torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.bool))
    torch.testing.assert_close(loss, torch.log(torch.tensor(13.0)))


def test_bfloat16_logits_are_summed_in_float32() -> None:
    logits, tokens, selected = problem(3, 4, 10, 0.9)
    low = logits.detach().bfloat16()
    assert ours(low, tokens, selected).dtype == torch.float32
    torch.testing.assert_close(ours(low, tokens, selected), ours(low.float(), tokens, selected))
