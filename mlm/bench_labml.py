"""labml-nn, the annotated implementation, as a contestant of the benchmark: its model, masks and recipe."""

from typing import TYPE_CHECKING, Any

from mlm import config
from mlm.bench_peers import Done, Learner, at_rest, batches, count

if TYPE_CHECKING:
    from torch import Tensor, nn

    from mlm.runs import RunFolder


def model(run: "RunFolder") -> "nn.Module":
    """labml-nn's encoder of a run's shape: embedding, encoder and generator of its MLM experiment."""
    import torch
    from labml_nn.transformers import Encoder, Generator, MultiHeadAttention, TransformerLayer
    from labml_nn.transformers.feed_forward import FeedForward
    from labml_nn.transformers.models import EmbeddingsWithPositionalEncoding

    shape, n_tokens = run.config.encoder, run.tokenizer().size
    layer = TransformerLayer(
        d_model=shape.width,
        self_attn=MultiHeadAttention(shape.heads, shape.width, dropout_prob=0.1),
        feed_forward=FeedForward(shape.width, shape.feedforward_width, dropout=0.1),
        dropout_prob=0.1,
    )

    class MaskedLanguageModel(torch.nn.Module):
        # labml_nn.transformers.mlm.experiment has the same class, but its module imports torchvision.
        def __init__(self) -> None:
            super().__init__()
            self.src_embed = EmbeddingsWithPositionalEncoding(shape.width, n_tokens)
            self.encoder = Encoder(layer, shape.layers)
            self.generator = Generator(n_tokens, shape.width)

        def forward(self, x: "Tensor") -> Any:
            return self.generator(self.encoder(self.src_embed(x), None))

    return MaskedLanguageModel()


def masking(run: "RunFolder") -> Any:
    """labml-nn's own masking class over a run's vocabulary."""
    from labml_nn.transformers.mlm import MLM

    return MLM(
        padding_token=config.PAD,
        mask_token=config.MASK,
        no_mask_tokens=[config.UNK, config.CLS, config.SEP],
        n_tokens=run.tokenizer().size,
    )


def train(run: "RunFolder", done: Done) -> None:
    """labml-nn with the recipe of its MLM experiment; without its accuracy and tracking."""
    import torch
    from labml_nn.optimizers.noam import Noam

    torch.set_num_threads(1)
    torch.manual_seed(run.config.seed)
    device = run.numerics.device
    learnt, masks = model(run).to(device), masking(run)
    optimizer = Noam(learnt.parameters(), lr=1.0, eps=1e-8, warmup=2000, d_model=run.config.encoder.width)
    loss_function = torch.nn.CrossEntropyLoss(ignore_index=config.PAD)
    logits = at_rest(learnt, lambda inputs: learnt(inputs.T).transpose(0, 1))
    learner = Learner(run.config.tokens_per_step, count(learnt), logits)
    for tokens in batches(run):
        with torch.no_grad():
            inputs, labels = masks(tokens.to(device).T.contiguous())  # [length, rows]
        output = learnt(inputs)
        loss = loss_function(output.view(-1, output.shape[-1]), labels.view(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learnt.parameters(), max_norm=1.0)
        optimizer.step()
        optimizer.zero_grad()
        done(learner)
