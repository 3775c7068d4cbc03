"""Counts of found and wrong voxels add up over cases; the two rates are taken from the sum."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import precision_score, recall_score

from monai_noisylabel.metrics import detection_counts, precision_recall


def test_sums_over_cases_are_those_of_all_voxels() -> None:
    generator = torch.Generator().manual_seed(0)
    forms = [(4, 5), (6, 7), (3, 2)]
    pairs = [
        (torch.rand(form, generator=generator) < 0.4, torch.rand(form, generator=generator) < 0.3) for form in forms
    ]
    counts = torch.stack([detection_counts(*pair) for pair in pairs]).sum(0)
    found, wrong = (torch.cat([part.flatten() for part in parts]) for parts in zip(*pairs, strict=True))
    assert counts.dtype == torch.int64
    assert precision_recall(counts) == pytest.approx((precision_score(wrong, found), recall_score(wrong, found)))


def test_numbers_are_read_as_masks() -> None:
    found, wrong = torch.tensor([0, 1, 255], dtype=torch.uint8), torch.tensor([1.0, 1.0, 0.0])
    assert detection_counts(found, wrong).tolist() == [1, 2, 2]


def test_nothing_found_or_nothing_wrong() -> None:
    precision, recall = precision_recall(torch.tensor([0, 0, 5]))
    assert math.isnan(precision)
    assert recall == 0
    precision, recall = precision_recall(torch.tensor([0, 5, 0]))
    assert precision == 0
    assert math.isnan(recall)


def test_other_forms_are_refused() -> None:
    with pytest.raises(ValueError, match=r"found \(2, 3\) and wrong \(3,\)"):
        detection_counts(torch.zeros(2, 3), torch.zeros(3))
