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


def _relabelled(stacked: Tensor, current: Tensor | None = None, **options: Any) -> dict[str, Any]:
    """The item after relabelling; the label in use so far is empty unless given."""
    options = {"num_outputs": 2, **options}
    channels = options["num_outputs"] if options.get("multi_label") else 1
    empty = torch.zeros(channels, *stacked.shape[1:], dtype=torch.uint8)
    data = {"case": "a", "pred": stacked, "pseudo_label": empty if current is None else current}
    return PrototypeRelabeld("pred", **options)(data)


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
    item = _relabelled(ROW, variant=variant)
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
    assert _relabelled(ROW, **option)["candidate"].tolist() == [[expected]]


def test_sigma_chooses_the_prototypes() -> None:
    # Unit features at 0, 30 and 90 degrees: degrees 1 + c30 + 0 = 1.866, c30 + 1 + c60 = 2.366, 0 + c60 +
    # 1 = 1.5; scaled 0.423, 1, 0. sigma 0.7: prototype 30 degrees, similarity 0.866, 1, 0.5 -> voxels 0
    # and 1. sigma 0.4: 0 and 30 degrees; similarity to voxel 0 (1 + 0.866) / 2, to voxel 1 the same, to
    # voxel 2 0.25. mu 0.9 tells them apart: 0.866 is below it, 0.933 above.
    row = _stacked([1, 1, 1], [[1.0, 3**0.5 / 2, 0.0], [0.0, 0.5, 1.0]])
    found = [_relabelled(row, sigma=sigma, mu=0.9)["candidate"].flatten().tolist() for sigma in (0.7, 0.4)]
    assert found == [[0, 1, 0], [1, 1, 0]]


def test_holes_are_filled_up_to_the_size_asked_for() -> None:
    # a square of 5 x 5 with a hole of one voxel, whose feature is another one: the hole is 1/24 of the
    # foreground
    features = torch.zeros(2, 7, 7)
    features[0, 1:6, 1:6] = 1.0
    features[:, 3, 3] = torch.tensor([0.0, 1.0])
    logits = torch.stack([torch.zeros(7, 7), features[0] - 0.5])
    for max_hole, expected in ((0.1, 25), (0.0, 24)):
        assert int(_relabelled(torch.cat([logits, features]), max_hole=max_hole)["candidate"].sum()) == expected


@pytest.mark.parametrize("shape", [(12, 10), (8, 9, 7)])
@pytest.mark.parametrize("multi_label", [False, True])
def test_equals_the_pure_functions(shape: tuple[int, ...], multi_label: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, *shape, generator=generator)
    features = torch.rand(5, *shape, generator=generator)
    form: dict[str, Any] = {"num_classes": 3, "multi_label": multi_label}
    predicted = (logits > 0).byte() if multi_label else logits.argmax(0, keepdim=True).byte()
    expected = clean_up_label(relabel(features, predicted, **form, cells=4, mu=0.9), **form)
    stacked = torch.cat([logits, features])
    item = _relabelled(stacked, num_outputs=3, multi_label=multi_label, cells=4, mu=0.9)
    assert torch.equal(item["pred"], predicted)
    assert torch.equal(torch.as_tensor(item["candidate"]), torch.as_tensor(expected))
    assert item["candidate"].shape == ((3 if multi_label else 1), *shape)


def test_multi_label_predictions_are_the_positive_logits() -> None:
    stacked = torch.tensor([[-1.0, 0.0, 2.0], [3.0, 1.0, -0.5], [1.0, 1.0, 1.0]]).unsqueeze(1)
    item = _relabelled(stacked, multi_label=True, variant="prediction")
    assert item["pred"].tolist() == [[[0, 0, 1]], [[1, 1, 0]]]


def test_an_empty_prediction_proposes_the_label_in_use() -> None:
    stacked = _stacked([0, 0, 0], [[1.0, 1.0, 1.0]])
    item = _relabelled(stacked)
    assert not item["pred"].any()
    assert not item["candidate"].any()
    assert _relabelled(stacked, torch.tensor([[[1, 0, 1]]], dtype=torch.uint8))["candidate"].tolist() == [[[1, 0, 1]]]


def test_a_class_that_is_not_predicted_keeps_its_voxels() -> None:
    # class 2 is predicted nowhere: its voxels 3 and 4 stay, also where class 1 is proposed (0, 1, 4, as above);
    # class 1 is predicted, so that its present voxel 2 counts for nothing
    stacked = torch.cat([ROW[:2], torch.full((1, 1, 5), -9.0), ROW[2:]])
    current = torch.tensor([[[0, 0, 1, 2, 2]]], dtype=torch.uint8)
    item = _relabelled(stacked, current, num_outputs=3)
    assert item["candidate"].tolist() == [[[1, 1, 0, 2, 2]]]
    assert item["candidate"].dtype == torch.uint8


def test_a_channel_that_is_not_predicted_stays_as_it_is() -> None:
    stacked = torch.cat([ROW[1:2], torch.full((1, 1, 5), -9.0), ROW[2:]])
    current = torch.tensor([[[0, 0, 1, 1, 1]], [[0, 1, 0, 1, 1]]], dtype=torch.uint8)
    item = _relabelled(stacked, current, multi_label=True)
    assert item["candidate"].tolist() == [[[1, 1, 0, 0, 1]], [[0, 1, 0, 1, 1]]]


def test_half_precision_and_metadata_are_accepted() -> None:
    stacked, current = MetaTensor(ROW.bfloat16()), MetaTensor(torch.zeros(1, 1, 5, dtype=torch.uint8))
    transform = PrototypeRelabeld("pred", num_outputs=2, output_key="corrected", current_key="used")
    item = transform({"pred": stacked, "used": current})
    assert item["corrected"].tolist() == [[[1, 1, 0, 0, 1]]]
    assert "candidate" not in item


def test_the_item_given_is_left_alone() -> None:
    data = {"pred": ROW.clone(), "pseudo_label": torch.ones(1, 1, 5, dtype=torch.uint8)}
    PrototypeRelabeld("pred", num_outputs=2)(data)
    assert set(data) == {"pred", "pseudo_label"}
    assert torch.equal(data["pred"], ROW)
    assert data["pseudo_label"].all()


def test_a_network_that_diverged_is_reported() -> None:
    with pytest.raises(ValueError, match="diverged"):
        _relabelled(_stacked([1, 1], [[float("nan"), 1.0]]))


def test_kept_structures_stay_as_they_are_in_use() -> None:
    # predicted 1 1 2 2 0, in use 0 2 2 0 1. With structure 2 kept its voxels 1 and 2 stay, and voxel 3, where 2 is
    # proposed, stays background; structure 1 moves to voxel 0.
    logits = torch.tensor([[0.0, 0, 0, 0, 9], [9, 9, 0, 0, 0], [0, 0, 9, 9, 0]]).unsqueeze(1)
    transform = PrototypeRelabeld("pred", num_outputs=3, variant="prediction", min_component=0, max_hole=0)
    current = torch.tensor([[[0, 2, 2, 0, 1]]], dtype=torch.uint8)
    data = {"pred": torch.cat([logits, torch.ones(1, 1, 5)]), "pseudo_label": current}
    assert transform(data)["candidate"].tolist() == [[[1, 1, 2, 2, 0]]]
    transform.kept = frozenset({2})
    assert transform(data)["candidate"].tolist() == [[[1, 2, 2, 0, 0]]]


def test_kept_channels_stay_as_they_are_in_use() -> None:
    logits = torch.tensor([[[1.0, -1, -1]], [[-1, 1, 1]]])
    transform = PrototypeRelabeld("pred", 2, multi_label=True, variant="prediction", min_component=0, max_hole=0)
    transform.kept = frozenset({1})
    current = torch.tensor([[[0, 0, 1]], [[1, 0, 0]]], dtype=torch.uint8)
    item = transform({"pred": torch.cat([logits, torch.ones(1, 1, 3)]), "pseudo_label": current})
    assert item["candidate"].tolist() == [[[0, 0, 1]], [[0, 1, 1]]]
