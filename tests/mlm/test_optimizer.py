"""AdamW over a flat buffer is PyTorch's AdamW."""

import pytest
import torch
from torch import nn

from mlm import config
from mlm.optimizer import AdamW


def network(seed: int) -> nn.Module:
    source = torch.Generator().manual_seed(seed)
    module = nn.Sequential(nn.Linear(6, 9), nn.LayerNorm(9), nn.Linear(9, 4, bias=False))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source) * 0.3)
    return module


def loss(module: nn.Module, step: int) -> torch.Tensor:
    x = torch.randn(16, 6, generator=torch.Generator().manual_seed(step))
    return (module(x) ** 2).mean() * (20 if step % 7 == 0 else 1)  # some gradients are clipped, some are not


@pytest.mark.parametrize("clip", [0.05, 1.0, 1e9])
def test_equals_pytorchs_over_fifty_steps(clip: float) -> None:
    options = config.Optimizer(weight_decay=0.1, clip_norm=clip, beta1=0.8, beta2=0.97, epsilon=1e-6)
    mine, theirs = network(0), network(0)
    ours = AdamW(mine, options)
    matrices = [p for p in theirs.parameters() if p.dim() >= 2]
    vectors = [p for p in theirs.parameters() if p.dim() < 2]
    reference = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        betas=(0.8, 0.97),
        eps=1e-6,
    )
    for step in range(50):
        rate = 1e-2 * (1 + step % 5)
        loss(mine, step).backward()
        norm = ours.step(step + 1, rate)
        for group in reference.param_groups:
            group["lr"] = rate
        reference.zero_grad()
        loss(theirs, step).backward()
        expected = nn.utils.clip_grad_norm_(theirs.parameters(), clip)
        reference.step()
        torch.testing.assert_close(norm, expected, rtol=1e-4, atol=1e-6)
        for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_gradients_are_cleared_and_stay_in_the_buffer() -> None:
    module = network(1)
    optimizer = AdamW(module, config.Optimizer())
    loss(module, 0).backward()
    assert optimizer.gradients.abs().sum() > 0
    # The same numbers, which processors add up in different orders.
    gathered = torch.cat([p.grad.flatten() for p in module.parameters()])
    assert torch.equal(optimizer.gradients.sort().values, gathered.sort().values)
    optimizer.step(1, 1e-3)
    assert (optimizer.gradients == 0).all()
    loss(module, 1).backward()
    assert optimizer.gradients.abs().sum() > 0


def test_vectors_are_not_decayed() -> None:
    module = network(2)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    AdamW(module, config.Optimizer(weight_decay=0.5)).step(1, 0.1)  # no gradient: decay alone moves anything
    for name, parameter in module.named_parameters():
        factor = 0.95 if parameter.dim() >= 2 else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor)


def test_state_and_load_go_on_to_the_same_bits() -> None:
    one, other = network(3), network(4)
    first, second = AdamW(one, config.Optimizer()), AdamW(other, config.Optimizer())
    for step in range(5):
        loss(one, step).backward()
        first.step(step + 1, 1e-2)
    second.load({name: tensor.clone() for name, tensor in first.state().items()})
    for step in range(5, 10):
        for module, optimizer in ((one, first), (other, second)):
            loss(module, step).backward()
            optimizer.step(step + 1, 1e-2)
    for name, tensor in first.state().items():
        assert torch.equal(tensor, second.state()[name])
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
