"""Blocks hold every voxel once and in order, and what cannot be counted is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from monai_noisylabel.estimation import voxel_blocks


def case() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    p = torch.randn(3, 4, 5, generator=generator).softmax(0)
    return p, torch.randint(0, 3, (4, 5), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(("size", "number"), [(7, 3), (20, 1), (10, 2)])
def test_every_voxel_once_and_in_order(size: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monai_noisylabel.estimation.blocks.BLOCK", size)
    p, label = case()
    blocks = list(voxel_blocks(p, label))
    assert len(blocks) == number
    assert torch.equal(torch.cat([part for part, _ in blocks], 1), p.flatten(1))
    assert torch.equal(torch.cat([given for _, given in blocks]), label.flatten().long())


def test_half_precision_becomes_float32_and_double_stays() -> None:
    p, label = case()
    for given, used in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        assert next(voxel_blocks(p.to(given), label))[0].dtype == used


def test_a_case_without_voxels_has_no_block() -> None:
    assert list(voxel_blocks(torch.zeros(2, 0, 3), torch.zeros(0, 3))) == []


@pytest.mark.parametrize(("value", "shown"), [(-0.1, "got -0.1 to"), (1.01, "to 1.01"), (float("nan"), "nan")])
def test_numbers_that_are_no_probabilities(value: float, shown: str) -> None:
    p, label = case()
    p[1, 2, 3] = value
    with pytest.raises(ValueError, match=f"between 0 and 1, .*{shown}.* apply softmax"):
        list(voxel_blocks(p, label))


def test_rounding_past_1_is_allowed() -> None:
    p, label = case()
    p[0, 0, 0] = 1.0005
    assert next(voxel_blocks(p, label))[0].max() > 1
