"""From logits and features of one sample to two labels, on maps small enough to work by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from monai_noisylabel.correction import clean_up_label, relabel
from monai_noisylabel.transforms import PrototypeRelabeld


def _stacked(region: list[int], features: list[list[float]]) -> Tensor:
    """Logits of background and one structure that predict ``region``, and features, over a row of voxels."""
    predicted = torch.tensor(region, dtype=torch.float32)
    return torch.stack([-predicted, 2 * predicted - 1, *map(torch.tensor, features)]).unsqueeze(1)


# Voxels 0 and 1 look like (1, 0), voxel 2 like (0, 5), voxel 3 like (0, 1), voxel 4 like (1, 0);
# predicted are 0, 1, 2.
ROW = _stacked([1, 1, 1, 0, 0], [[1.0, 1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 5.0, 1.0, 0.0]])


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        # Degrees of the cells 0, 1, 2: 2, 2, 1; scaled 1, 1, 0; above 0.7 are 0 and 1, so the prototype
        # is (1, 0). Similarity 1 at voxels 0, 1, 4 and 0 elsewhere.
        ("prototype", [1, 1, 0, 0, 1]),
        # Mean feature (2, 5) / 3, direction (0.371, 0.928): 0.371 at voxels 0, 1, 4, 0.928 at 2 and 3.
        ("average", [0, 0, 1, 1, 0]),
        ("prediction", [1, 1, 1, 0, 0]),
    ],
)
def test_variants_by_hand(variant: Any, expected: list[int]) -> None:
    item = PrototypeRelabeld("pred", num_outputs=2, variant=variant)({"pred": ROW, "case": "a"})
    assert item["candidate"].tolist() == [[expected]]
    assert item["pred"].tolist() == [[[1, 1, 1, 0, 0]]]
    assert item["candidate"].dtype == item["pred"].dtype == torch.uint8
    assert item["case"] == "a"


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ({}, [1, 1, 0, 0, 1]),
        # components {0, 1} and {4} are 2/3 and 1/3 of the foreground
        ({"min_component": 0.5}, [1, 1, 0, 0, 0]),
        # the region grows over voxel 2: similarity to (1, 0) is 0 > -0.1 everywhere
        ({"mu": -0.1}, [1, 1, 1, 1, 1]),
        # one cell for the whole row is the mean feature, as in the variant "average"
        ({"cells": 1}, [0, 0, 1, 1, 0]),
    ],
)
def test_options_reach_the_correction(option: dict[str, Any], expected: list[int]) -> None:
    assert PrototypeRelabeld("pred", num_outputs=2, **option)({"pred": ROW})["candidate"].tolist() == [[expected]]


def test_sigma_chooses_the_prototypes() -> None:
    # Unit features at 0, 30 and 90 degrees: degrees 1 + c30 + 0 = 1.866, c30 + 1 + c60 = 2.366, 0 + c60 +
    # 1 = 1.5; scaled 0.423, 1, 0. sigma 0.7: prototype 30 degrees, similarity 0.866, 1, 0.5 -> voxels 0
    # and 1. sigma 0.4: 0 and 30 degrees; similarity to voxel 0 (1 + 0.866) / 2, to voxel 1 the same, to
    # voxel 2 0.25. mu 0.9 tells them apart: 0.866 is below it, 0.933 above.
    row = _stacked([1, 1, 1], [[1.0, 3**0.5 / 2, 0.0], [0.0, 0.5, 1.0]])
    found = [
        PrototypeRelabeld("pred", num_outputs=2, sigma=sigma, mu=0.9)({"pred": row})["candidate"].flatten().tolist()
        for sigma in (0.7, 0.4)
    ]
    assert found == [[0, 1, 0], [1, 1, 0]]


def test_holes_are_filled_up_to_the_size_asked_for() -> None:
    # a square of 5 x 5 with a hole of one voxel, whose feature is another one: the hole is 1/24 of the
    # foreground
    features = torch.zeros(2, 7, 7)
    features[0, 1:6, 1:6] = 1.0
    features[:, 3, 3] = torch.tensor([0.0, 1.0])
    logits = torch.stack([torch.zeros(7, 7), features[0] - 0.5])
    data = {"pred": torch.cat([logits, features])}
    for max_hole, expected in ((0.1, 25), (0.0, 24)):
        assert int(PrototypeRelabeld("pred", 2, max_hole=max_hole)(data)["candidate"].sum()) == expected


@pytest.mark.parametrize("shape", [(12, 10), (8, 9, 7)])
@pytest.mark.parametrize("multi_label", [False, True])
def test_equals_the_pure_functions(shape: tuple[int, ...], multi_label: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, *shape, generator=generator)
    features = torch.rand(5, *shape, generator=generator)
    form: dict[str, Any] = {"num_classes": 3, "multi_label": multi_label}
    predicted = (logits > 0).byte() if multi_label else logits.argmax(0, keepdim=True).byte()
    expected = clean_up_label(relabel(features, predicted, **form, cells=4, mu=0.9), **form)
    transform = PrototypeRelabeld("pred", num_outputs=3, multi_label=multi_label, cells=4, mu=0.9)
    item = transform({"pred": torch.cat([logits, features])})
    assert torch.equal(item["pred"], predicted)
    assert torch.equal(torch.as_tensor(item["candidate"]), torch.as_tensor(expected))
    assert item["candidate"].shape == ((3 if multi_label else 1), *shape)


def test_multi_label_predictions_are_the_positive_logits() -> None:
    stacked = torch.tensor([[-1.0, 0.0, 2.0], [3.0, 1.0, -0.5], [1.0, 1.0, 1.0]]).unsqueeze(1)
    item = PrototypeRelabeld("pred", num_outputs=2, multi_label=True, variant="prediction")({"pred": stacked})
    assert item["pred"].tolist() == [[[0, 0, 1]], [[1, 1, 0]]]


def test_an_empty_prediction_proposes_nothing() -> None:
    item = PrototypeRelabeld("pred", num_outputs=2)({"pred": _stacked([0, 0, 0], [[1.0, 1.0, 1.0]])})
    assert not item["pred"].any()
    assert not item["candidate"].any()


def test_half_precision_and_metadata_are_accepted() -> None:
    item = PrototypeRelabeld("pred", num_outputs=2, output_key="corrected")({"pred": MetaTensor(ROW.bfloat16())})
    assert item["corrected"].tolist() == [[[1, 1, 0, 0, 1]]]
    assert "candidate" not in item


def test_the_item_given_is_left_alone() -> None:
    data = {"pred": ROW.clone()}
    PrototypeRelabeld("pred", num_outputs=2)(data)
    assert set(data) == {"pred"}
    assert torch.equal(data["pred"], ROW)


def test_a_network_that_diverged_is_reported() -> None:
    with pytest.raises(ValueError, match="diverged"):
        PrototypeRelabeld("pred", num_outputs=2)({"pred": _stacked([1, 1], [[float("nan"), 1.0]])})
