"""AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) over one flat buffer.

One buffer makes the update, the gradient's norm and a checkpoint one operation each. PyTorch's
own AdamW gives the same numbers (a test compares them) but takes 0.8 s to construct, as it loads the
compiler.
"""

import torch
from torch import Tensor, nn

from mlm import config


class AdamW:
    """Moves a module's parameters and gradients into flat buffers and updates them.

    Matrices are decayed, vectors (gains and biases) are not.

    Args:
        module: its parameters become views of `parameters`, their gradients of `gradients`.
        options: β₁, β₂, ε, weight decay and the norm at which gradients are clipped.
    """

    def __init__(self, module: nn.Module, options: config.Optimizer) -> None:
        self.options = options
        # Matrices first: weight decay is then one slice.
        named = sorted(module.named_parameters(), key=lambda item: item[1].dim() < 2)
        total = sum(parameter.numel() for _, parameter in named)
        device = named[0][1].device
        self.parameters = torch.zeros(total, device=device)
        self.gradients = torch.zeros_like(self.parameters)
        self.first_moment = torch.zeros_like(self.parameters)
        self.second_moment = torch.zeros_like(self.parameters)
        self.decayed = sum(p.numel() for _, p in named if p.dim() >= 2)
        begin = 0
        for _, parameter in named:
            end = begin + parameter.numel()
            self.parameters[begin:end] = parameter.detach().flatten()
            parameter.data = self.parameters[begin:end].view(parameter.shape)
            parameter.grad = self.gradients[begin:end].view(parameter.shape)
            begin = end

    @torch.no_grad()
    def step(self, number: int, learning_rate: float) -> Tensor:
        """Clip, update with the gathered gradients and clear them.

        Args:
            number: 1 for the first update; corrects the moments' bias.

        Returns:
            Scalar tensor, the gradient's norm before clipping.
        """
        o, g = self.options, self.gradients
        norm: Tensor = torch.linalg.vector_norm(g)
        excess = ((norm + 1e-6) / o.clip_norm).clamp(min=1.0)  # what gradients are divided by
        updates = torch.full((), float(number), device=g.device)
        for part, decay in ((slice(0, self.decayed), o.weight_decay), (slice(self.decayed, None), 0.0)):
            # The kernel behind torch.optim.AdamW(fused=True): one pass over memory where its formula
            # written out takes nine.
            torch._fused_adamw_(
                [self.parameters[part]],
                [g[part]],
                [self.first_moment[part]],
                [self.second_moment[part]],
                [],
                [updates],
                lr=learning_rate,
                beta1=o.beta1,
                beta2=o.beta2,
                weight_decay=decay,
                eps=o.epsilon,
                amsgrad=False,
                maximize=False,
                grad_scale=excess,
            )
        g.zero_()
        return norm

    def state(self) -> dict[str, Tensor]:
        """The buffers a checkpoint keeps."""
        return {
            "parameters": self.parameters,
            "first_moment": self.first_moment,
            "second_moment": self.second_moment,
        }

    def load(self, state: dict[str, Tensor]) -> None:
        """Copy a checkpoint's buffers into place."""
        for name, buffer in self.state().items():
            buffer.copy_(state[name])
