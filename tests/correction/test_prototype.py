from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from reference import prototype_loops

from monai_noisylabel.correction import (
    average_prototype,
    grid_cells,
    prototypes,
    relabel,
    representation_degree,
    similarity,
)

SHAPES = [(12, 12), (9, 14), (6, 7, 5)]


def random_sample(shape: tuple[int, ...], seed: int = 0, d: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Non-negative features that point elsewhere in the middle, and a ragged prediction of the middle."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(d, *shape, generator=generator)
    centre = torch.ones(shape, dtype=torch.bool)
    for axis, size in enumerate(shape):
        near = (torch.arange(size) - size / 2).abs() < size / 4
        centre &= near.view([-1 if other == axis else 1 for other in range(len(shape))])
    features[0] += 2 * centre
    return features, centre & (torch.rand(shape, generator=generator) < 0.8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cells", [4, 64])
@pytest.mark.parametrize("signed", [False, True])
def test_linear_form_equals_the_double_loops(shape: tuple[int, ...], cells: int, signed: bool) -> None:
    features, region = random_sample(shape)
    features = features - 0.5 if signed else features
    exact = features.numpy().astype(np.float64)

    candidates = prototype_loops.grid_features(exact, region.numpy(), cells)
    expected = prototype_loops.representation_degrees(candidates)
    degree = representation_degree(torch.from_numpy(np.stack(candidates)).float())
    np.testing.assert_allclose(degree.numpy(), expected, atol=1e-5 * len(candidates))

    slow = prototype_loops.prototypes(exact, region.numpy(), cells, sigma=0.7)
    fast = prototypes(features, region, grid_cells(shape, cells), sigma=0.7)
    unit = [vector / np.linalg.norm(vector) for vector in slow]
    assert 1 <= len(slow) < len(candidates)
    np.testing.assert_allclose(fast.numpy(), unit, atol=1e-5)

    probability = prototype_loops.foreground_probability(exact, slow)
    np.testing.assert_allclose(similarity(features, fast).numpy(), probability, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_relabel_equals_the_loops(shape: tuple[int, ...]) -> None:
    features, region = random_sample(shape)
    expected = prototype_loops.pseudo_label(features.numpy(), region.numpy(), cells=4)
    label = relabel(features, region[None].to(torch.uint8), num_classes=2, cells=4)
    assert label.dtype == torch.uint8
    assert 0 < expected.sum() < expected.size
    assert np.array_equal(label[0].numpy(), expected)


def test_representation_degree_by_hand() -> None:
    # Angles 0, 0, 60 degrees: D = (1 + 1 + 1/2, the same, 1/2 + 1/2 + 1).
    half = torch.tensor([0.5, math.sqrt(0.75)])
    features = torch.stack([torch.tensor([1.0, 0.0]), torch.tensor([7.0, 0.0]), 0.1 * half])
    torch.testing.assert_close(representation_degree(features), torch.tensor([2.5, 2.5, 2.0]))


def test_zero_cells_represent_nothing() -> None:
    assert representation_degree(torch.tensor([[0.0, 0.0], [2.0, 0.0], [3.0, 0.0]])).tolist() == [
        0.0,
        2.0,
        2.0,
    ]


def test_cell_feature_is_the_mean_over_the_region_only() -> None:
    # One cell of four voxels, three in the region: mean (1, 2/3), unit (3, 2)/sqrt(13). The fourth must not
    # count.
    features = torch.tensor([[1.0, 1.0, 1.0, 50.0], [0.0, 0.0, 2.0, 50.0]]).view(2, 2, 2)
    region = torch.tensor([[True, True], [True, False]])
    found = prototypes(features, region, grid_cells((2, 2), cells=1))
    torch.testing.assert_close(found, torch.tensor([[3.0, 2.0]]) / math.sqrt(13))


def test_sigma_cuts_the_min_max_scaled_degree() -> None:
    # Cells at 0, 0, 45 and 90 degrees, c = cos 45: D = 2 + c, 2 + c, 1 + 3 c, 1 + c = 2.707, 2.707, 3.121,
    # 1.707, scaled 0.707, 0.707, 1, 0 (0.7071 = c exactly, because (2 + c - 1 - c) / (1 + 3 c - 1 - c) = 1 /
    # (2 c) = c).
    features = torch.tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]]).view(2, 1, 4)
    region, cells = torch.ones(1, 4, dtype=torch.bool), grid_cells((1, 4))
    assert len(prototypes(features, region, cells, sigma=0.70)) == 3
    assert len(prototypes(features, region, cells, sigma=0.71)) == 1
    assert len(prototypes(features, region, cells, sigma=0.0)) == 3


def test_cells_that_are_all_alike_are_all_prototypes() -> None:
    # The same direction at many scales: the degrees differ by rounding only, which scaling must not blow up.
    scale = torch.linspace(0.1, 3.0, 400).view(1, 20, 20)
    features = torch.tensor([0.3, 0.5, 0.9]).view(3, 1, 1) * scale
    found = prototypes(features, torch.ones(20, 20, dtype=torch.bool), grid_cells((20, 20)))
    assert len(found) == 400


def test_opposed_cells_are_equally_representative() -> None:
    features = torch.tensor([[1.0, -1.0]]).view(1, 1, 2)
    assert prototypes(features, torch.ones(1, 2, dtype=torch.bool), grid_cells((1, 2))).tolist() == [
        [1.0],
        [-1.0],
    ]


def test_similarity_averages_unit_prototypes_of_any_scale() -> None:
    # Prototypes along both axes, one of length 10: a voxel along the diagonal has cosine 1/sqrt 2 with each.
    features = torch.tensor([3.0, 3.0]).view(2, 1, 1)
    found = similarity(features, torch.tensor([[10.0, 0.0], [0.0, 1.0]]))
    assert found.item() == pytest.approx(1 / math.sqrt(2))


def test_zero_feature_is_similar_to_nothing() -> None:
    features = torch.tensor([[0.0, 1.0], [0.0, 0.0]]).view(2, 1, 2)
    assert similarity(features, torch.tensor([[1.0, 0.0]])).tolist() == [[0.0, 1.0]]
    label = relabel(features, torch.tensor([[[0, 1]]]), num_classes=2)
    assert label.tolist() == [[[0, 1]]]


def test_empty_region_has_no_prototypes() -> None:
    features, region = random_sample((6, 6))
    nothing = torch.zeros_like(region)
    assert prototypes(features, nothing, grid_cells((6, 6))).shape == (0, 5)
    assert average_prototype(features, nothing).shape == (0, 5)


@pytest.mark.parametrize("variant", ["prototype", "average"])
@pytest.mark.parametrize("mu", [0.7, -0.5])
def test_empty_class_is_absent_and_does_not_disturb_the_others(variant: str, mu: float) -> None:
    features = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).view(2, 1, 3)
    prediction = torch.tensor([[[0, 2, 0]]])
    label = relabel(features, prediction, num_classes=4, mu=mu, variant=variant)  # type: ignore[arg-type]
    assert label.tolist() == ([[[2, 2, 0]]] if mu > 0 else [[[2, 2, 2]]])
    empty = relabel(features, torch.zeros(1, 1, 3), num_classes=4, mu=mu)
    assert empty.tolist() == [[[0, 0, 0]]]
    channels = torch.stack([torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 0.0]])])
    label = relabel(features, channels, num_classes=2, multi_label=True, mu=mu)
    assert label[0].tolist() == [[0, 0, 0]]


def test_multi_class_takes_the_most_similar_class_above_mu() -> None:
    # Prototypes along x (class 1) and y (class 2). Voxels at 0, 90, 30 (cos 0.87, 0.5), 60 and, with a third
    # axis in play, one whose cosines are 0.67 at most: background.
    angles = [(1, 0, 0), (0, 1, 0), (0.87, 0.5, 0), (0.5, 0.87, 0), (0.67, 0.3, 0.68)]
    features = torch.tensor(angles).T.reshape(3, 1, 5)
    label = relabel(features, torch.tensor([[[1, 2, 0, 0, 0]]]), num_classes=3)
    assert label.tolist() == [[[1, 2, 1, 2, 0]]]


def test_multi_label_channels_may_overlap() -> None:
    # A voxel at 45 degrees has cosine 0.7071 > 0.7 with both structures; at 30 degrees 0.87 and 0.5.
    features = torch.tensor([[1.0, 0.0, 1.0, 0.87], [0.0, 1.0, 1.0, 0.5]]).view(2, 1, 4)
    prediction = torch.tensor([[[1, 0, 0, 0]], [[0, 1, 0, 0]]])
    label = relabel(features, prediction, num_classes=2, multi_label=True)
    assert label.tolist() == [[[1, 0, 1, 1]], [[0, 1, 1, 0]]]


def test_variants_differ_as_described() -> None:
    # Region: three voxels along x and one long, wrong one along y. The mean (3, 5)/4 leans to y and misses x,
    # while the prototypes leave the wrong cell out: D = 3, 3, 3, 1.
    features = torch.tensor([[1.0, 1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 5.0, 0.0]]).view(2, 1, 5)
    prediction = torch.tensor([[[1, 1, 1, 1, 0]]])
    found = {
        variant: relabel(features, prediction, num_classes=2, variant=variant).tolist()  # type: ignore[arg-type]
        for variant in ("prototype", "average", "prediction")
    }
    assert found["prototype"] == [[[1, 1, 1, 0, 1]]]
    assert found["average"] == [[[0, 0, 0, 1, 0]]]
    assert found["prediction"] == [[[1, 1, 1, 1, 0]]]


def test_average_prototype_is_the_mean_of_the_region() -> None:
    features, region = random_sample((9, 14))
    mean = features[:, region].mean(1)
    torch.testing.assert_close(average_prototype(features, region)[0], mean / mean.norm())


def test_wrong_part_of_the_region_is_dropped_and_missing_part_recovered() -> None:
    # A square structure in the first direction on other ground; the prediction misses its right third and
    # spills.
    truth = torch.zeros(32, 32, dtype=torch.bool)
    truth[8:24, 8:23] = True
    noise = 0.05 * torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(3))
    features = torch.stack([truth.float(), (~truth).float(), torch.full((32, 32), 0.2)]) + noise
    prediction = torch.zeros(1, 32, 32, dtype=torch.uint8)
    prediction[0, 6:24, 8:18] = 1
    assert torch.equal(relabel(features, prediction, num_classes=2, cells=16)[0].bool(), truth)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_features_are_computed_in_float32(dtype: torch.dtype) -> None:
    features, region = random_sample((24, 20), d=32)
    features = (features * 300).to(dtype)  # squares and sums overflow float16, cosines in bfloat16 lose 3 digits
    cells = grid_cells((24, 20), 8)
    found = prototypes(features, region, cells)
    exact = prototypes(features.double(), region, cells)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        similarity(features, found).double(), similarity(features.double(), exact), atol=1e-5, rtol=0
    )


def test_autocast_does_not_lower_the_precision() -> None:
    features, region = random_sample((24, 20), d=32)
    prediction = region[None].to(torch.uint8)
    found = prototypes(features, region, grid_cells((24, 20), 8))
    outside = similarity(features, found)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = similarity(features, prototypes(features, region, grid_cells((24, 20), 8)))
        label = relabel(features, prediction, num_classes=2, cells=8)
    assert torch.equal(inside, outside)
    assert torch.equal(label, relabel(features, prediction, num_classes=2, cells=8))


def test_float64_stays_float64() -> None:
    features, region = random_sample((6, 6))
    assert prototypes(features.double(), region, grid_cells((6, 6))).dtype == torch.float64


@pytest.mark.parametrize("shape", SHAPES)
def test_repeated_calls_agree_bit_for_bit_and_leave_their_input_alone(shape: tuple[int, ...]) -> None:
    features, region = random_sample(shape, d=32)
    features.requires_grad_()
    prediction = region[None].to(torch.uint8)
    before = features.detach().clone(), prediction.clone()
    found = similarity(features, prototypes(features, region, grid_cells(shape, 4)))
    again = similarity(features, prototypes(features, region, grid_cells(shape, 4)))
    assert torch.equal(found, again)
    assert not found.requires_grad
    first, second = (relabel(features, prediction, num_classes=2) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(features.detach(), before[0])
    assert torch.equal(prediction, before[1])


def test_channels_last_features_give_the_same_label() -> None:
    features, region = random_sample((9, 14))
    strided = features.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    prediction = region[None].to(torch.uint8)
    assert torch.equal(relabel(strided, prediction, num_classes=2), relabel(features, prediction, num_classes=2))


def test_tensor_subclasses_are_read_as_plain_tensors() -> None:
    class Annotated(torch.Tensor):
        pass

    features, region = random_sample((6, 6))
    prediction = region[None].to(torch.uint8)
    label = relabel(features.as_subclass(Annotated), prediction.as_subclass(Annotated), num_classes=2)
    assert type(label) is torch.Tensor
    for variant in ("average", "prediction"):
        label = relabel(
            features.as_subclass(Annotated),
            prediction.as_subclass(Annotated),
            num_classes=2,
            variant=variant,  # type: ignore[arg-type]
        )
        assert type(label) is torch.Tensor


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variant": "median"}, "variant must be one of .*'prototype'.*, got 'median'"),
        ({"mu": 1.0}, r"mu must lie in [-1, 1), got 1.0"),
        ({"sigma": 1.0}, r"sigma must lie in [0, 1), got 1.0"),
        ({"sigma": -0.1}, r"sigma must lie in [0, 1), got -0.1"),
        ({"cells": 0}, "cells must be at least 1"),
        ({"num_classes": 1}, "num_classes leaves no foreground class, got 1"),
        ({"num_classes": 0, "multi_label": True}, "num_classes leaves no foreground class, got 0"),
        ({"num_classes": 2, "multi_label": True}, "prediction must have shape (2, 6, 6), got (1, 6, 6)"),
        ({"prediction": torch.zeros(1, 6, 5)}, "prediction must have shape (1, 6, 6), got (1, 6, 5)"),
        ({"prediction": torch.full((1, 6, 6), 2)}, "prediction must hold values 0 to 1, found [2]"),
        ({"prediction": torch.full((1, 6, 6), -1)}, "prediction must hold values 0 to 1, found [-1]"),
        ({"features": torch.zeros(3, 6, 6, dtype=torch.int64)}, "features must be floating point"),
        ({"features": torch.full((3, 6, 6), math.nan)}, "features holds NaN or infinity inside the region"),
    ],
)
def test_errors_of_relabel(change: dict[str, object], message: str) -> None:
    features, region = random_sample((6, 6))
    arguments = {"features": features, "prediction": region[None].to(torch.uint8), "num_classes": 2, **change}
    pattern = message if ".*" in message else re.escape(message)
    with pytest.raises(ValueError, match=pattern):
        relabel(**arguments)  # type: ignore[arg-type]


def test_not_finite_outside_the_region_is_an_error_too() -> None:
    features, region = random_sample((6, 6))
    features[1, 0, 0] = math.inf
    with pytest.raises(ValueError, match="features holds NaN, infinity or values too large"):
        relabel(features, region[None].to(torch.uint8), num_classes=2)


def test_errors_of_the_parts() -> None:
    features, region = random_sample((6, 6))
    with pytest.raises(ValueError, match=r"region must have the shape of the map, \(6, 6\), got \(5, 6\)"):
        average_prototype(features, region[:5])
    with pytest.raises(ValueError, match=r"cells must have the shape of the map, \(6, 6\), got \(3, 3\)"):
        prototypes(features, region, grid_cells((3, 3)))
    with pytest.raises(ValueError, match=r"prototypes must have shape \(M, 5\) with M >= 1 .* got \(0, 5\)"):
        similarity(features, torch.zeros(0, 5))
    with pytest.raises(ValueError, match=r"prototypes must have shape \(M, 5\) with M >= 1 .* got \(2, 3\)"):
        similarity(features, torch.zeros(2, 3))
