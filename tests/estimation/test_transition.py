"""Transition matrices: rows, volume, and what class noise does to pairs, counted pair by pair."""

from __future__ import annotations

import math

import pytest
import torch
from reference.affinity_pairs import affinity_counts

from monai_noisylabel.estimation import class_priors, class_to_affinity, confusion_counts, log_volume, transition_matrix

CLEAN = torch.tensor([[0, 0, 1], [1, 2, 2], [3, 3, 0]])
NOISY = torch.tensor([[0, 1, 1], [2, 2, 3], [3, 0, 0]])
"""The example on the authors' slides."""


def counted(clean: torch.Tensor, noisy: torch.Tensor, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Transition matrix and clean counts of a pair of maps."""
    joint = confusion_counts(clean, noisy, classes).double()
    return joint / joint.sum(1, keepdim=True).clamp(min=1), joint.sum(1)


class TestTransitionMatrix:
    @pytest.mark.parametrize("scale", [1.0, 100.0])
    def test_rows_are_distributions_whose_largest_entry_is_the_diagonal(self, scale: float) -> None:
        weight = scale * torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0))
        matrix = transition_matrix(weight)
        torch.testing.assert_close(matrix.sum(-1), torch.ones(3, 4))
        assert (matrix >= 0).all()
        assert (matrix <= matrix.diagonal(dim1=-2, dim2=-1)[..., None]).all()

    def test_entry_by_entry(self) -> None:
        # sigmoid(0) = 1/2, sigmoid(log 3) = 3/4: rows 1, 1/2, 3/4 and so on
        row = [0.0, math.log(3.0)]
        weight = torch.tensor([[9.0, *row], [row[0], -9.0, row[1]], [*row, 9.0]])
        expected = torch.tensor([[4, 2, 3], [2, 4, 3], [2, 3, 4]]) / 9
        torch.testing.assert_close(transition_matrix(weight), expected)

    def test_gradient(self) -> None:
        weight = torch.randn(2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
        assert torch.autograd.gradcheck(lambda w: log_volume(transition_matrix(w)), weight)


class TestVolume:
    def test_known_determinants(self) -> None:
        assert log_volume(torch.eye(5)).item() == pytest.approx(0, abs=1e-6)
        shuffled = torch.tensor([[0.0, 1.0], [1.0, 0.0]])  # determinant -1
        assert log_volume(shuffled).item() == pytest.approx(0, abs=1e-6)
        both = torch.stack([torch.eye(2), torch.tensor([[0.9, 0.1], [0.4, 0.6]])])
        assert log_volume(both).tolist() == pytest.approx([0, math.log(0.5)], abs=1e-6)

    def test_singular_matrix_is_finite_with_a_finite_gradient(self) -> None:
        matrix = torch.full((3, 3), 1 / 3).requires_grad_()
        value = log_volume(matrix)
        (slope,) = torch.autograd.grad(value, matrix)
        assert -40 < value.item() < -20
        assert slope.isfinite().all()


class TestClassToAffinity:
    def test_example_of_the_paper(self) -> None:
        transition, counts = counted(CLEAN, NOISY, 4)
        affinity = class_to_affinity(transition, counts)
        assert affinity[1, 1].item() == pytest.approx(11 / 21)
        assert affinity[0, 0].item() == pytest.approx(50 / 60)
        assert affinity_counts(CLEAN, NOISY).tolist() == [[50, 10], [10, 11]]

    @pytest.mark.parametrize("classes", [2, 3, 5])
    @pytest.mark.parametrize("seed", range(3))
    def test_equals_pair_counting_on_random_maps(self, classes: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        clean = torch.randint(0, classes, (5, 6), generator=generator)
        noisy = torch.where(torch.rand(5, 6, generator=generator) < 0.4, clean.roll(1), clean)
        transition, counts = counted(clean, noisy, classes)
        pairs = affinity_counts(clean, noisy)
        expected = pairs / pairs.sum(1, keepdim=True)
        torch.testing.assert_close(class_to_affinity(transition, counts), expected)
        torch.testing.assert_close(class_to_affinity(transition, counts / counts.sum()), expected)

    def test_no_noise_gives_the_identity(self) -> None:
        torch.testing.assert_close(class_to_affinity(torch.eye(3), torch.tensor([0.5, 0.3, 0.2])), torch.eye(2))

    def test_one_class_alone_has_no_different_pairs(self) -> None:
        weight = torch.zeros(2, 2).requires_grad_()
        affinity = class_to_affinity(transition_matrix(weight), torch.tensor([1.0, 0.0]))
        # T = [2/3, 1/3] in both rows: pairs stay together with 4/9 + 1/9
        torch.testing.assert_close(affinity, torch.tensor([[1.0, 0.0], [4 / 9, 5 / 9]]))
        assert torch.autograd.grad(affinity[1, 1], weight)[0].isfinite().all()

    def test_batches_and_their_gradient(self) -> None:
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(2, 3, 3, dtype=torch.float64, generator=generator).requires_grad_()
        priors = torch.tensor([[0.5, 0.3, 0.2], [0.8, 0.1, 0.1]], dtype=torch.float64)
        both = class_to_affinity(transition_matrix(weight), priors)
        for n in range(2):
            torch.testing.assert_close(both[n], class_to_affinity(transition_matrix(weight[n]), priors[n]))
        assert torch.autograd.gradcheck(lambda w: class_to_affinity(transition_matrix(w), priors), weight)

    @pytest.mark.parametrize(("matrix", "priors"), [((3, 3), (2,)), ((3, 2), (3,)), ((2, 3, 3), (3,))], ids=str)
    def test_forms_that_do_not_go_together(self, matrix: tuple[int, ...], priors: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"\(\.\.\., C, C\) and the priors \(\.\.\., C\) do not go together"):
            class_to_affinity(torch.ones(matrix), torch.ones(priors))


def test_priors_are_shares_of_large_counts_too() -> None:
    counts = torch.tensor([[3 * 2**40, 2**40], [0, 5], [0, 0]])
    torch.testing.assert_close(class_priors(counts), torch.tensor([[0.75, 0.25], [0.0, 1.0], [0.5, 0.5]]))
