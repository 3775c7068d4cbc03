"""The joint loss: agreement in closed form, its limits, and one choice for both networks."""

from __future__ import annotations

import math

import pytest
import torch

from monai_noisylabel.losses import JoCoRLoss, jocor_loss, symmetric_kl


def log_p(*foreground: float) -> torch.Tensor:
    p = torch.tensor(foreground, dtype=torch.float64)
    return torch.stack([1 - p, p]).log()[None]


def test_symmetric_kl_of_two_coins() -> None:
    # (p - q) log[p (1 - q) / (q (1 - p))]: 0.9 and 0.5 give 0.4 log 9, 0.8 and 0.2 give 0.6 log 16
    value = symmetric_kl(log_p(0.9, 0.8, 0.3), log_p(0.5, 0.2, 0.3))
    expected = torch.tensor([[[0.4 * math.log(9), 0.6 * math.log(16), 0.0]]], dtype=torch.float64)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(symmetric_kl(log_p(0.5, 0.2, 0.3), log_p(0.9, 0.8, 0.3)), value)


@pytest.mark.parametrize("spatial", [(4, 5), (2, 3, 4)])
def test_symmetric_kl_is_the_sum_of_torchs_divergences(spatial: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.randn(2, 4, *spatial, generator=generator, dtype=torch.float64).log_softmax(1) for _ in range(2))
    both = torch.nn.functional.kl_div(q, p, reduction="none", log_target=True)
    both = both + torch.nn.functional.kl_div(p, q, reduction="none", log_target=True)
    torch.testing.assert_close(symmetric_kl(p, q), both.sum(1, keepdim=True))


def test_lambda_0_is_both_cross_entropies_and_1_agreement_alone() -> None:
    p, q, label = log_p(0.9, 0.8), log_p(0.5, 0.2), torch.tensor([[[1, 0]]])
    expected = -torch.tensor([[[math.log(0.9) + math.log(0.5), math.log(0.2) + math.log(0.8)]]], dtype=torch.float64)
    torch.testing.assert_close(jocor_loss(p, q, label, lam=0.0), expected)
    torch.testing.assert_close(jocor_loss(p, q, label, lam=1.0), symmetric_kl(p, q))


def test_lambda_is_that_of_the_segmentation_paper_by_default() -> None:
    p, q, label = log_p(0.9), log_p(0.5), torch.tensor([[[1]]])
    expected = 0.35 * -math.log(0.45) + 0.65 * 0.4 * math.log(9)
    assert jocor_loss(p, q, label).item() == pytest.approx(expected)
    value = JoCoRLoss(2)(torch.cat([p, q], 1), label)
    assert value.item() == pytest.approx(expected)


def test_what_is_ranked_is_what_is_learned() -> None:
    """Both networks call voxel 0 right, but disagree most: agreement decides who is left out."""
    first, second = (0.98, 0.6, 0.7), (0.51, 0.6, 0.7)
    logits = torch.cat([log_p(*first), log_p(*second)], 1).requires_grad_()
    label = torch.ones(1, 1, 3)
    left_out = []
    for lam in (0.0, 0.65):
        value = JoCoRLoss(2, keep_rates=0.6, ramp_epochs=0, lam=lam)(logits, label)
        slope = torch.autograd.grad(value, logits)[0]
        left_out.append((slope.abs().sum(1) == 0).squeeze().tolist())
    assert left_out == [[False, True, False], [True, False, False]]  # the most uncertain; the most contested


def test_lambda_out_of_range_is_refused() -> None:
    for lam in (-0.1, 1.1):
        with pytest.raises(ValueError, match="lam must be between 0"):
            JoCoRLoss(2, lam=lam)
