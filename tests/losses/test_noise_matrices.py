"""The learned matrices: where they begin, what they count, how their entries are named."""

from __future__ import annotations

import math

import pytest
import torch
from affinity_fakes import counts_of_a_share
from two_processes import run_on_two

from monai_noisylabel.estimation import class_to_affinity
from monai_noisylabel.losses import NoiseMatrices


def test_they_begin_near_the_identity() -> None:
    matrices = NoiseMatrices(classes=4, groups=2)
    off = 1 / (1 + math.exp(2))
    expected = (torch.full((4, 4), off) + (1 - off) * torch.eye(4)) / (1 + 3 * off)
    torch.testing.assert_close(matrices.of_class, expected.expand(2, 4, 4))
    assert matrices.of_affinity.shape == (2, 2, 2)


def test_counts_of_classes_and_of_structures() -> None:
    classes = NoiseMatrices(classes=3)
    classes.count(torch.tensor([[[0, 2, 2]], [[0, 0, 2]]]))
    classes.count(torch.tensor([[[1, 0, 0]]]))
    assert classes.class_counts.tolist() == [[5, 1, 3]]
    structures = NoiseMatrices(classes=2, groups=2)
    structures.count(torch.tensor([[[0, 1, 1], [0, 0, 1]]]))
    assert structures.class_counts.tolist() == [[1, 2], [2, 1]]


@pytest.mark.distributed
def test_two_processes_count_all_labels() -> None:
    assert run_on_two(counts_of_a_share) == [[[5, 4, 3]], [[5, 4, 3]]]


def test_terms() -> None:
    matrices = NoiseMatrices(classes=3)
    matrices.count(torch.tensor([[[0, 0, 1, 2]]]))
    with torch.no_grad():
        matrices.class_weights.copy_(torch.randn(1, 3, 3, generator=torch.Generator().manual_seed(0)))
    implied = class_to_affinity(matrices.of_class[0], torch.tensor([0.5, 0.25, 0.25]))
    torch.testing.assert_close(matrices.implied_affinity()[0], implied)
    assert matrices.inconsistency().item() == pytest.approx((implied - matrices.of_affinity[0]).square().mean().item())
    volume = matrices.of_class[0].det().abs().log() + matrices.of_affinity[0].det().log()
    assert matrices.volume(torch.tensor([[0.5, 0.3, 0.2]])).item() == pytest.approx(volume.item(), abs=1e-5)


def test_the_volume_pulls_a_row_by_the_share_of_its_class() -> None:
    """A third of the voxels, of three classes: as log |det T| itself pulls; a tenth: 0.3 of that."""
    matrices = NoiseMatrices(classes=3)
    (plain,) = torch.autograd.grad(matrices.of_class.det().log().sum(), matrices.class_weights)
    volume = matrices.volume(torch.tensor([[1 / 3, 0.1, 17 / 30]]))
    (pulled,) = torch.autograd.grad(volume, matrices.class_weights)
    torch.testing.assert_close(pulled, plain * torch.tensor([1.0, 0.3, 1.7])[:, None])


def test_parameter_group_learns_every_parameter_without_decay() -> None:
    matrices = NoiseMatrices(classes=3)
    group = matrices.parameter_group(lr=0.5)
    assert {id(p) for p in group["params"]} == {id(p) for p in matrices.parameters()}
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.0)


def test_entries_of_exclusive_classes() -> None:
    matrices = NoiseMatrices(classes=3)
    with torch.no_grad():
        matrices.class_weights[0, 1, 2] = 0.0
        matrices.affinity_weights[0, 0, 1] = 0.0
    entries = matrices.entries(["liver", "tumour"])
    assert len(entries) == 9 + 4
    assert entries["class_transition/liver to tumour"]().item() == pytest.approx(0.5 / (1.5 + 1 / (1 + math.exp(2))))
    assert entries["affinity_transition/different to same"]().item() == pytest.approx(1 / 3)
    assert not entries["class_transition/liver to tumour"]().requires_grad


def test_entries_of_structures() -> None:
    matrices = NoiseMatrices(classes=2, groups=3)
    with torch.no_grad():
        matrices.class_weights[1, 1, 0] = 0.0
        matrices.affinity_weights[2, 1, 0] = 0.0
    entries = matrices.entries(["lung", "heart", "clavicle"])
    assert len(entries) == 3 * 8
    assert entries["class_transition_heart/present to absent"]().item() == pytest.approx(1 / 3)
    assert entries["affinity_transition_clavicle/same to different"]().item() == pytest.approx(1 / 3)


def test_state_is_kept() -> None:
    matrices, other = NoiseMatrices(classes=3), NoiseMatrices(classes=3)
    matrices.count(torch.tensor([[[0, 2, 2]]]))
    with torch.no_grad():
        matrices.class_weights.uniform_()
    other.load_state_dict(matrices.state_dict())
    assert torch.equal(other.implied_affinity(), matrices.implied_affinity())
