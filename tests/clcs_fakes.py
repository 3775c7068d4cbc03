"""Batches for two branches, and what two processes make of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from monai_noisylabel.losses import CLCSLoss


def branch_batch(
    seed: int = 0, space: tuple[int, ...] = (5, 7), dtype: torch.dtype = torch.float64, samples: int = 2
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Logits of two branches of three classes that mostly agree with each other and with the label; features."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 3, (samples, 1, *space), generator=generator)
    votes = torch.cat([target == c for c in range(3)], 1).double()
    noise = [torch.randn(samples, 3, *space, generator=generator, dtype=torch.float64) for _ in range(3)]
    logits = torch.cat([4 * votes + 2 * noise[0] + 2 * own for own in noise[1:]], 1)
    features = torch.rand(samples, 8, *(2,) * len(space), generator=generator, dtype=torch.float64)
    return (logits.to(dtype).requires_grad_(), features.to(dtype).requires_grad_()), target


def structures(target: Tensor) -> Tensor:
    """Three overlapping structures."""
    return torch.cat([target > 0, target == 1, target == 2], 1).to(torch.uint8)


def selecting(**settings: Any) -> CLCSLoss:
    """A loss of three classes past its warm-up."""
    loss = CLCSLoss(num_classes=3, **settings).double()
    loss.warming_up.fill_(False)
    return loss


def losses_of_share(rank: int, steps: int, share: int, weighted: bool) -> dict[str, Any]:
    """Losses, gradients and state of a rank that sees its share of the samples of every step."""
    loss, values, slopes = selecting(), [], []
    part = slice(share * rank, share * (rank + 1))
    for step in range(steps):
        (logits, features), target = branch_batch(step, samples=4)
        weight = torch.rand(4, 1, 5, 7, generator=torch.Generator().manual_seed(step)) if weighted else torch.ones(4)
        value = loss((logits[part], features[part]), target[part], weight[part])
        values.append(value.item())
        slopes.append(torch.autograd.grad(value, logits)[0][part].numpy())
    totals = loss.take_totals()
    return {
        "losses": values,
        "slopes": slopes,
        "thresholds": loss.thresholds.tolist(),
        "totals": [part.tolist() for part in totals],
    }
