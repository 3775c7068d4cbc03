"""Ranks found from two histograms are those that sorting finds, to the bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from monai_noisylabel.selection.score_ranks import high_bit_counts, low_bit_counts, nth_largest, rank_buckets

PAIRS = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]


def scores(p: Tensor, label: Tensor, i: int, j: int) -> Tensor:
    return (p[j] - p[i] if i != j else -p[i])[label == i]


def cases(dtype: torch.dtype = torch.float32) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    logits = [5 * torch.randn(3, 6, 7, generator=generator) for _ in range(4)]
    return [(z.softmax(0).to(dtype), torch.randint(0, 3, (6, 7), generator=generator)) for z in logits]


def found(given: list[tuple[Tensor, Tensor]], ranks: Tensor) -> Tensor:
    buckets, rest = rank_buckets(torch.stack([high_bit_counts(*case, PAIRS) for case in given]).sum(0), ranks)
    low = torch.stack([low_bit_counts(*case, PAIRS, buckets) for case in given]).sum(0)
    return nth_largest(buckets, rank_buckets(low, rest)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_rank(dtype: torch.dtype) -> None:
    given = cases(dtype)
    ordered = [
        torch.cat([scores(p.float(), label, *pair) for p, label in given]).sort(descending=True).values
        for pair in PAIRS
    ]
    for rank in range(1, min(map(len, ordered)) + 1):
        expected = torch.stack([values[rank - 1] for values in ordered])
        assert torch.equal(found(given, torch.full((len(PAIRS),), rank)), expected)


def test_the_ends_of_the_scale() -> None:
    # scores of pair (0, 1): 1, 0 and -1; of (0, 0): -0, -0.5 and -1
    p = torch.tensor([[0.0, 0.5, 1.0], [1.0, 0.5, 0.0], [0.0, 0.0, 0.0]])
    given = [(p, torch.zeros(3, dtype=torch.uint8))]
    for rank, (own, other) in enumerate([(0, 1), (-0.5, 0), (-1, -1)], start=1):
        assert found(given, torch.tensor([rank, rank, 0, 0, 0])).tolist() == [own, other, *[float("inf")] * 3]


def test_rounding_past_1_is_within_the_scale() -> None:
    p = torch.tensor([[1.0005], [0.0], [0.0]])
    assert torch.equal(found([(p, torch.tensor([0]))], torch.tensor([1, 1, 0, 0, 0]))[:2], -p[:1, 0].expand(2))


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    given = cases()
    ranks = torch.tensor([3, 9, 1, 0, 5])
    whole = found(given, ranks)
    monkeypatch.setattr("monai_noisylabel.estimation.blocks.BLOCK", 5)
    assert torch.equal(found(given, ranks), whole)
