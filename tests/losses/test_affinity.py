"""The affinity loss by blocks is the dense one: in value, in gradient, for a sample of rows, and at extremes."""

from __future__ import annotations

import pytest
import torch
from reference.affinity_pairs import dense_affinity_loss
from torch import Tensor

from monai_noisylabel.estimation import transition_matrix
from monai_noisylabel.losses import affinity, affinity_loss, sampled_rows

VOXELS = 50


def problem(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two images of fifty voxels: raw features, labels, weights of the matrices, weights of voxels."""
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(2, VOXELS, 4, generator=generator, dtype=dtype).requires_grad_()
    label = torch.randint(0, 3, (2, VOXELS), generator=generator)
    noise = torch.randn(2, 2, 2, generator=generator, dtype=dtype).requires_grad_()
    return raw, label, noise, torch.rand(2, VOXELS, generator=generator, dtype=dtype).round(decimals=1)


def unit(raw: Tensor) -> Tensor:
    return torch.nn.functional.normalize(raw.relu(), dim=2)


class TestAgainstTheDenseForm:
    @pytest.mark.parametrize("block", [1, 350, 2**20], ids=["one row", "seven rows", "all rows"])
    @pytest.mark.parametrize("corrected", [False, True])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_value_and_gradient(
        self, block: int, corrected: bool, weighted: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(affinity, "BLOCK_ON_CPU", block)
        raw, label, noise, weight = problem()
        values, slopes = [], []
        for loss in (affinity_loss, dense_affinity_loss):
            matrix = transition_matrix(noise) if corrected else None
            value = loss(unit(raw), label, matrix, weight if weighted else None)
            values.append(value)
            slopes.append(torch.autograd.grad(3 * value, [raw, noise] if corrected else [raw]))
        torch.testing.assert_close(values[0], values[1])
        for ours, theirs in zip(*slopes, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-6)

    def test_a_sample_of_rows_is_the_mean_over_these_rows(self) -> None:
        raw, label, noise, weight = problem()
        rows = torch.tensor([7, 0, 33])
        matrix = transition_matrix(noise).detach()
        value = affinity_loss(unit(raw), label, matrix, weight, rows)
        parts, pairs = [], []
        for row in rows.tolist():  # all weight of the first member of a pair on one voxel
            for n in range(2):
                a = unit(raw)[n, row] @ unit(raw)[n].T
                q = (1 - a) * matrix[n, 0, 1] + a * matrix[n, 1, 1]
                wanted = torch.where(label[n] == label[n, row], q, 1 - q)
                parts.append(-(weight[n, row] * weight[n] * wanted.log()).sum())
                pairs.append((weight[n, row] * weight[n]).sum())
        expected = torch.stack(parts).sum() / torch.stack(pairs).sum()
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(torch.autograd.grad(value, raw)[0], torch.autograd.grad(expected, raw)[0])

    def test_samples_of_all_rows_average_to_the_whole(self) -> None:
        raw, label, _, _ = problem()
        parts = [affinity_loss(unit(raw), label, rows=torch.arange(n, n + 10)) for n in range(0, VOXELS, 10)]
        torch.testing.assert_close(torch.stack(parts).mean(), affinity_loss(unit(raw), label))

    def test_it_is_not_differentiated_twice_in_silence(self) -> None:
        raw, label, _, _ = problem()
        with pytest.raises(RuntimeError, match="no second derivatives"):
            torch.autograd.grad(affinity_loss(unit(raw), label), raw, create_graph=True)

    def test_the_gradient_can_be_asked_for_twice(self) -> None:
        raw, label, _, _ = problem()
        value = affinity_loss(unit(raw), label)
        first = torch.autograd.grad(value, raw, retain_graph=True)[0]
        assert torch.equal(torch.autograd.grad(value, raw)[0], first)


class TestExtremes:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_pairs_that_contradict_their_labels_entirely_are_finite(self, dtype: torch.dtype) -> None:
        # alike with other labels, unlike with the same label, and vectors of 0
        vectors = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]], dtype=dtype).requires_grad_()
        value = affinity_loss(vectors, torch.tensor([[0, 1, 0, 0]]))
        (slope,) = torch.autograd.grad(value, vectors)
        assert value.dtype == torch.float32
        # 9 of 16 pairs at -log 1e-6: 0-1 twice; 0-2, 0-3, 2-3 twice each; 3-3; -log 1 for the rest
        assert value.item() == pytest.approx(9 / 16 * 13.8155, rel=1e-4)
        assert slope.dtype == dtype
        assert slope.isfinite().all()

    def test_weight_0_everywhere_gives_0_without_a_gradient(self) -> None:
        raw, label, _, _ = problem()
        value = affinity_loss(unit(raw), label, weight=torch.zeros(2, VOXELS))
        assert value.item() == 0
        assert not torch.autograd.grad(value, raw)[0].any()

    def test_voxels_of_weight_0_do_not_matter(self) -> None:
        raw, label, _, _ = problem()
        weight = torch.ones(2, VOXELS, dtype=torch.float64)
        weight[:, 30:] = 0
        kept = affinity_loss(unit(raw)[:, :30], label[:, :30])
        torch.testing.assert_close(affinity_loss(unit(raw), label, weight=weight), kept)
        assert not torch.autograd.grad(affinity_loss(unit(raw), label, weight=weight), raw)[0][:, 30:].any()


class TestSampledRows:
    def test_seed_decides(self) -> None:
        draws = [sampled_rows(1000, 10**4, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
        assert draws[0] is not None and draws[1] is not None and draws[2] is not None  # noqa: PT018
        assert torch.equal(draws[0], draws[1])
        assert not torch.equal(draws[0], draws[2])
        assert len(set(draws[0].tolist())) == 10

    def test_one_row_at_least_and_none_to_draw_where_all_fit(self) -> None:
        assert sampled_rows(1000, 5, torch.Generator()).shape == (1,)
        assert sampled_rows(10, 100, torch.Generator()) is None
