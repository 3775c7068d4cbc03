"""Relabelling by contrast: a voxel goes to the side, structure or background, whose prototypes it resembles more."""

from __future__ import annotations

import math

import torch

from monai_noisylabel.correction import relabel


def feature_row(*degrees: float) -> torch.Tensor:
    """Unit features of dimension 2 at the given angles, as a map (2, 1, N)."""
    angles = torch.tensor(degrees) * math.pi / 180
    return torch.stack([angles.cos(), angles.sin()]).unsqueeze(1)


def test_the_boundary_lies_in_the_middle_between_both_prototypes() -> None:
    """Predicted inside: the voxels at 0 degrees; outside: those at 90. The middle is 45 degrees.

    cos(50 degrees) = 0.64 to the structure and cos(40) = 0.77 to the background: outside. At 40 degrees the other way
    round, which the fixed threshold 0.8 would have cut off. The voxels at 40 and 50 degrees are too few to move the
    mean prototype of their side across 45 degrees: inside (4 x 0 + 1 x 50) and outside (4 x 90 + 1 x 40).
    """
    features = feature_row(0, 0, 0, 0, 50, 40, 90, 90, 90, 90)
    prediction = torch.tensor([[[1, 1, 1, 1, 1, 0, 0, 0, 0, 0]]])
    expected = [[[1, 1, 1, 1, 0, 1, 0, 0, 0, 0]]]
    for multi_label, classes in ((False, 2), (True, 1)):
        new = relabel(features, prediction, num_classes=classes, cells=10, variant="contrast", multi_label=multi_label)
        assert new.tolist() == expected
    fixed = relabel(features, prediction, num_classes=2, cells=10, mu=0.8)
    assert fixed[0, 0, 5] == 0


def test_nothing_predicted_and_everything_predicted_stay() -> None:
    features = feature_row(0, 30, 60, 90)
    for value in (0, 1):
        prediction = torch.full((1, 1, 4), value)
        new = relabel(features, prediction, num_classes=2, cells=4, variant="contrast")
        assert new.tolist() == prediction.tolist()
