"""Three networks: both rules by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from monai_noisylabel.losses import TriNetworkLoss

# p of the label by network (row) and voxel (column), as negative logarithms to base 2
LOSSES = torch.tensor([[1.0, 2.0, 3.0, 6.0], [1.0, 4.0, 3.5, 2.0], [5.0, 1.0, 3.0, 2.0]])


def learned_voxels(rule: str) -> list[list[bool]]:
    p = 2.0 ** -LOSSES.double()
    logits = torch.stack([1 - p, p], 1).flatten(0, 1).log()[None].requires_grad_()
    loss = TriNetworkLoss(2, keep_rates=0.5, ramp_epochs=0, rule=rule)  # type: ignore[arg-type]
    value: Tensor = loss(logits, torch.ones(1, 1, 4))
    slope = torch.autograd.grad(value, logits)[0]
    return [(slope[0, 2 * peer : 2 * peer + 2].abs().sum(0) > 0).tolist() for peer in range(3)]


def test_agreement_keeps_what_the_others_judge_alike() -> None:
    # |l2 - l3|: 4 3 .5 0; |l1 - l3|: 4 1 0 4; |l1 - l2|: 0 2 .5 4
    assert learned_voxels("agreement") == [
        [False, False, True, True],
        [False, True, True, False],
        [True, False, True, False],
    ]


def test_intersection_keeps_what_both_others_find_easy() -> None:
    # the easy half of 1: {0, 1}; of 2: {0, 3}; of 3: {1, 3}
    assert learned_voxels("intersection") == [
        [False, False, False, True],
        [False, True, False, False],
        [True, False, False, False],
    ]


def test_another_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="rule must be 'agreement' or 'intersection', got 'union'"):
        TriNetworkLoss(2, rule="union")  # type: ignore[arg-type]
