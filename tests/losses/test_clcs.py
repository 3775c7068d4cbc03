from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from clcs_fakes import branch_batch, losses_of_share, selecting, structures
from monai.data import MetaTensor
from reference import clcs_loops, peer_losses
from torch import Tensor
from two_processes import run_on_two

from monai_noisylabel.losses import CLCSLoss, discrepancy_loss, noise_balance_loss

SPACES = [(5, 7), (3, 4, 5)]


def weights(space: tuple[int, ...], samples: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(6)
    return torch.rand(samples, 1, *space, generator=generator, dtype=torch.float64).sub(0.25).clamp(min=0)


def pair(p: list[list[float]]) -> tuple[Tensor, Tensor]:
    """Logits of two branches from the probabilities of class 1 of two; orthogonal features: discrepancy 1."""
    first, second = (torch.tensor(row, dtype=torch.float64) for row in p)
    logits = torch.stack([1 - first, first, 1 - second, second]).log()[None].requires_grad_()
    return logits, torch.tensor([[[1.0], [0.0], [0.0], [1.0]]], dtype=torch.float64)


class TestEquations:
    def test_discrepancy_of_opposed_equal_and_orthogonal_features(self) -> None:
        first = torch.tensor([[[1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]])
        second = torch.tensor([[[-2.0, 1.0, 5.0, 1.0], [0.0, 0.0, 0.0, 1.0]]])
        # cosines -1, 1, 0, and 0 for a feature of length 0
        assert discrepancy_loss(first, second).item() == pytest.approx(1.0)
        assert discrepancy_loss(first[..., :1], second[..., :1]).item() == pytest.approx(0.0)
        assert discrepancy_loss(first[..., 1:2], second[..., 1:2]).item() == pytest.approx(2.0)

    def test_discrepancy_holds_the_other_branch_fixed(self) -> None:
        """Each branch has half of the gradient of 1 + mean cos."""
        first, second = (part.requires_grad_() for part in torch.rand(2, 2, 4, 3, dtype=torch.float64).unbind(0))
        ours = torch.autograd.grad(discrepancy_loss(first, second), (first, second))
        plain = torch.autograd.grad(1 + torch.cosine_similarity(first, second).mean(), (first, second))
        for slope, full in zip(ours, plain, strict=True):
            torch.testing.assert_close(slope, full / 2)
            assert slope.any()

    def test_features_of_length_0_have_a_finite_gradient(self) -> None:
        first, second = torch.zeros(1, 4, 3, requires_grad=True), torch.rand(1, 4, 3, requires_grad=True)
        discrepancy_loss(first, second).backward()
        assert first.grad is not None
        assert first.grad.isfinite().all()

    def test_noise_balance_is_ce_at_1_and_reverse_ce_at_0(self) -> None:
        p = torch.tensor([0.9, 0.2], dtype=torch.float64)
        torch.testing.assert_close(noise_balance_loss(p.log(), torch.ones(2)), -p.log())
        torch.testing.assert_close(noise_balance_loss(p.log(), torch.zeros(2), 0.3), 0.3 * -math.log(1e-4) * (1 - p))

    @pytest.mark.parametrize("mix", ["confidence", "label"])
    def test_worked_example(self, mix: Any) -> None:
        """Voxels labelled 1 with p (.9, .6), (.8, .7), (.1, .2), thresholds 0: the last one is noise.

        Clean: (-log .9 - log .8) / 2 and (-log .6 - log .7) / 2. Noise, with w = 1 - (.9 + .8) / 2 or (.1 + .2) / 2,
        both .15: .15 * -log .1 + .85 * .1 * 9.2103 * .9 and .15 * -log .2 + .85 * .1 * 9.2103 * .8.
        """
        value = selecting_two(noise_mix=mix)(pair([[0.9, 0.8, 0.1], [0.6, 0.7, 0.2]]), torch.ones(1, 1, 3))
        clean = -(math.log(0.9 * 0.8) + math.log(0.6 * 0.7)) / 4
        noise = (0.15 * -math.log(0.1 * 0.2) + 0.85 * 0.1 * -math.log(1e-4) * (0.9 + 0.8)) / 2
        assert value.item() == pytest.approx(1 + clean + 0.5 * noise, rel=1e-6)

    def test_the_mixes_differ_where_the_branches_are_unsure(self) -> None:
        """p (.6, .4) of a label 1: the branches disagree; w is 1 - .6, or (.6 + .4) / 2."""
        for mix, w in (("confidence", 0.4), ("label", 0.5)):
            value = selecting_two(noise_mix=mix)(pair([[0.6], [0.4]]), torch.ones(1, 1, 1))
            noise = (w * -math.log(0.24) + (1 - w) * 0.1 * -math.log(1e-4)) / 2
            assert value.item() == pytest.approx(1 + 0.5 * noise, rel=1e-6)

    def test_weights_of_the_terms(self) -> None:
        logits, target = pair([[0.9, 0.1], [0.6, 0.2]]), torch.ones(1, 1, 2)
        terms = {}
        for noise, reverse, discrepancy in ((0.0, 0.1, 0.0), (1.0, 0.1, 0.0), (1.0, 0.0, 0.0), (0.0, 0.1, 2.5)):
            loss = selecting_two(noise_weight=noise, reverse_weight=reverse, discrepancy_weight=discrepancy)
            terms[noise, reverse, discrepancy] = loss(logits, target).item()
        clean = -math.log(0.9 * 0.6) / 2
        assert terms[0.0, 0.1, 0.0] == pytest.approx(clean)
        assert terms[0.0, 0.1, 2.5] == pytest.approx(clean + 2.5)
        assert terms[1.0, 0.0, 0.0] == pytest.approx(clean + 0.15 * -math.log(0.1 * 0.2) / 2)
        assert terms[1.0, 0.1, 0.0] - terms[1.0, 0.0, 0.0] == pytest.approx(0.85 * 0.1 * -math.log(1e-4) * 1.7 / 2)


def selecting_two(**settings: Any) -> CLCSLoss:
    loss = CLCSLoss(num_classes=2, **settings).double()
    loss.warming_up.fill_(False)
    return loss


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("status", ["rate", "count"])
@pytest.mark.parametrize("weighted", [False, True])
class TestAgainstLoops:
    """Over several batches, so that thresholds are those of what was seen before."""

    @pytest.mark.parametrize("mix", ["confidence", "label"])
    def test_multi_class(self, space: tuple[int, ...], status: Any, weighted: bool, mix: Any) -> None:
        loss = selecting(status=status, noise_mix=mix, momentum=0.5)
        self.compare(loss, space, weights(space) if weighted else None, sigmoid=False)

    def test_multi_label(self, space: tuple[int, ...], status: Any, weighted: bool) -> None:
        loss = selecting(status=status, sigmoid=True, momentum=0.5)
        self.compare(loss, space, weights(space) if weighted else None, sigmoid=True)

    def compare(self, loss: CLCSLoss, space: tuple[int, ...], weight: Tensor | None, sigmoid: bool) -> None:
        counts: clcs_loops.Counts = {}
        read = peer_losses.independent if sigmoid else peer_losses.exclusive
        shares = []
        for step in range(4):
            (logits, features), target = branch_batch(step, space)
            target = structures(target) if sigmoid else target
            voxels = read(logits, target, 2, weight)
            clean = []
            for voxel in voxels:
                place = (voxel.channel, voxel.label, loss.status, loss.tau)
                limits = [clcs_loops.threshold(counts, branch, *place) for branch in range(2)]
                clean.append(clcs_loops.is_clean(voxel, limits))
            expected = clcs_loops.loss(voxels, clean, loss.noise_weight, loss.noise_mix, loss.reverse_weight)
            expected += clcs_loops.discrepancy(*features.chunk(2, 1))
            value = loss((logits, features), target, weight)
            assert value.item() == pytest.approx(expected, rel=1e-9)
            counts = clcs_loops.running_counts(counts, voxels, loss.tau, loss.momentum)
            shares.append(sum(clean) / len(clean))
        assert 0.1 < shares[-1] < shares[0] < 0.9  # thresholds have risen, and the sets are not empty


class TestThresholds:
    def test_a_batch_is_judged_by_the_thresholds_before_it(self) -> None:
        """The second voxel's p of .9 passes while nothing is confident, and not after .99 was seen."""
        loss, target = selecting_two(noise_weight=0.0, momentum=0.0), torch.ones(1, 1, 2)
        batch = pair([[0.99, 0.9], [0.99, 0.9]])
        both, only_first = -math.log(0.99 * 0.9) / 2, -math.log(0.99)
        assert loss.thresholds.tolist() == [[[0.0, 0.0]]] * 2
        assert loss(batch, target).item() == pytest.approx(1 + both)
        assert loss.thresholds.tolist() == [[[0.0, pytest.approx(0.95)]]] * 2
        assert loss(batch, target).item() == pytest.approx(1 + only_first)

    def test_running_counts(self) -> None:
        """Two predicted, one confident; then two predicted, none: momentum .75 leaves 1/4 and 1/4 * 3/4."""
        loss, target = selecting_two(momentum=0.75), torch.ones(1, 1, 2)
        loss(pair([[0.99, 0.9], [0.6, 0.9]]), target)
        assert loss.counts[:, 0, 1].tolist() == [[0.5, 0.25], [0.5, 0.0]]
        loss(pair([[0.9, 0.9], [0.2, 0.1]]), target)
        assert loss.counts[:, 0, 1].tolist() == [[0.875, 0.1875], [0.375, 0.0]]
        assert loss.counts[1, 0, 0].tolist() == [0.5, 0.0]

    def test_a_class_that_is_absent_keeps_its_rate(self) -> None:
        loss = selecting_two()
        loss(pair([[0.99, 0.9, 0.01], [0.99, 0.9, 0.01]]), torch.tensor([[[1, 1, 0]]]))
        before = loss.thresholds
        assert before[0, 0, 1] == pytest.approx(0.95 * 0.5 / 1.5)
        loss(pair([[0.01, 0.02], [0.01, 0.02]]), torch.zeros(1, 1, 2))
        torch.testing.assert_close(loss.thresholds, before)

    def test_evaluation_and_warm_up(self) -> None:
        (logits, features), target = branch_batch()
        loss = selecting().eval()
        loss((logits, features), target)
        assert not loss.counts.any()
        assert not loss.take_totals().labelled.any()
        loss.train().warming_up.fill_(True)
        cross_entropies = [torch.nn.functional.cross_entropy(part, target[:, 0]) for part in logits.chunk(2, 1)]
        expected = sum(cross_entropies) / 2 + discrepancy_loss(*features.chunk(2, 1))
        torch.testing.assert_close(loss((logits, features), target), expected)
        assert loss.counts.any()  # status is followed in the warm-up too
        totals = loss.take_totals()
        assert torch.equal(totals.clean, totals.labelled)

    def test_totals_add_up_and_start_over(self) -> None:
        loss, seen = selecting(), []
        for step in range(2):
            batch, target = branch_batch(step)
            loss(batch, target)
            seen.append((batch[0], target))
        totals = loss.take_totals()
        labels = torch.cat([target for _, target in seen])
        assert totals.labelled.tolist() == [[int((labels == c).sum()) for c in range(3)]]
        for branch in range(2):
            voted = torch.cat([logits.chunk(2, 1)[branch].argmax(1) for logits, _ in seen])
            assert totals.predicted[branch].tolist() == [[int((voted == c).sum()) for c in range(3)]]
        assert (totals.clean <= totals.labelled).all()
        assert 0 < totals.clean.sum() < totals.labelled.sum()
        assert not loss.take_totals().predicted.any()

    def test_the_state_goes_on_in_another_loss(self) -> None:
        whole, parts = selecting(), selecting()
        for step in range(2):
            whole(*branch_batch(step))
            parts(*branch_batch(step))
        resumed = CLCSLoss(num_classes=3).double()
        resumed.load_state_dict(parts.state_dict())
        assert not resumed.warming_up
        assert torch.equal(resumed(*branch_batch(2)), whole(*branch_batch(2)))


class TestSets:
    def test_an_empty_set_contributes_0(self) -> None:
        target = torch.ones(1, 1, 2)
        all_clean = pair([[0.9, 0.8], [0.7, 0.6]])
        value = selecting_two()(all_clean, target)
        assert value.item() == pytest.approx(1 - math.log(0.9 * 0.8 * 0.7 * 0.6) / 4)
        all_noise = pair([[0.1, 0.2], [0.3, 0.4]])
        value = selecting_two(noise_weight=0.0)(all_noise, target)
        assert value.item() == pytest.approx(1)
        assert not torch.autograd.grad(value, all_noise[0])[0].any()
        nothing = selecting_two()(all_noise, target, torch.zeros(1))
        assert nothing.item() == pytest.approx(1)
        assert not torch.autograd.grad(nothing, all_noise[0])[0].any()

    def test_voxels_of_weight_0_do_not_matter(self) -> None:
        (logits, features), target = branch_batch()
        weight = weights((5, 7)).round()
        other = torch.where(weight > 0, logits, 1 - 3 * logits)
        one, two = selecting(), selecting()
        torch.testing.assert_close(one((other, features), target, weight), two((logits, features), target, weight))
        assert torch.equal(one.counts, two.counts)

    def test_weight_of_ones_equals_no_weight(self) -> None:
        batch, target = branch_batch()
        for ones in (torch.ones(2), torch.ones(2, 1, 5, 7)):
            torch.testing.assert_close(selecting()(batch, target, ones), selecting()(batch, target))

    def test_without_background(self) -> None:
        batch, target = branch_batch()
        kept = selecting(include_background=False)(batch, target)
        torch.testing.assert_close(kept, selecting()(batch, target, (target > 0).float()))

    def test_channels_without_the_first(self) -> None:
        (logits, features), target = branch_batch()
        kept = selecting(sigmoid=True, include_background=False)((logits, features), structures(target))
        rest = CLCSLoss(num_classes=2, sigmoid=True).double()
        rest.warming_up.fill_(False)
        logits = torch.cat([part[:, 1:] for part in logits.chunk(2, 1)], 1)
        torch.testing.assert_close(kept, rest((logits, features), structures(target)[:, 1:]))

    def test_a_class_without_voxels(self) -> None:
        (logits, features), target = branch_batch()
        value = selecting()((logits, features), target.clamp(max=1))
        assert value.isfinite()

    def test_one_channel_under_sigmoid(self) -> None:
        logits = torch.tensor([[[3.0, -2.0], [2.0, 1.0]]], dtype=torch.float64, requires_grad=True)
        loss = CLCSLoss(num_classes=1, sigmoid=True, noise_weight=0.0, discrepancy_weight=0.0)
        loss.warming_up.fill_(False)
        value = loss((logits, torch.ones(1, 2, 1)), torch.ones(1, 1, 2))  # the branches differ in the second voxel
        assert value.item() == pytest.approx((math.log1p(math.exp(-3)) + math.log1p(math.exp(-2))) / 2)

    def test_the_choice_passes_no_gradient(self) -> None:
        """Where the mix is 1 - p^, its own slope must not appear: the gradient is that of fixed shares."""
        logits, features = pair([[0.6], [0.4]])
        slope = torch.autograd.grad(selecting_two()((logits, features), torch.ones(1, 1, 1)), logits)[0].flatten()
        # 0.5 / 2 * (w * (p - 1) - (1 - w) g A p (1 - p)) for the logit of the label, w = 0.4
        for branch, p in enumerate((0.6, 0.4)):
            expected = 0.25 * (0.4 * (p - 1) - 0.6 * 0.1 * -math.log(1e-4) * p * (1 - p))
            assert slope[2 * branch + 1].item() == pytest.approx(expected, rel=1e-6)


class TestPrecision:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("sigmoid", [False, True])
    def test_extreme_logits_stay_finite(self, dtype: torch.dtype, sigmoid: bool) -> None:
        extremes = torch.tensor([-200.0, 0.0, 200.0], dtype=dtype)
        logits = torch.cartesian_prod(*[extremes] * 6).T[None].clone().requires_grad_()
        features = torch.tensor([0.0, 6e4], dtype=dtype).repeat(1, 4)[..., None].requires_grad_()
        for label in range(3):
            for mix in ("confidence", "label"):
                loss = CLCSLoss(num_classes=3, sigmoid=sigmoid, noise_mix=mix)  # type: ignore[arg-type]
                loss.warming_up.fill_(False)
                target = torch.full((1, 1, 729), label)
                value = loss((logits, features), structures(target) if sigmoid else target)
                slopes = torch.autograd.grad(value, (logits, features))
                assert value.dtype == torch.float32
                assert math.isfinite(value.item())
                assert all(slope.isfinite().all() for slope in slopes)
                assert loss.thresholds.isfinite().all()

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_differs_only_by_the_rounding_of_the_logits(self, dtype: torch.dtype) -> None:
        (logits, features), target = branch_batch(dtype=dtype)
        half = selecting().float()((logits, features), target)
        full = selecting().float()((logits.float(), features.float()), target)
        torch.testing.assert_close(half, full, rtol=1e-6, atol=0)

    def test_autocast_changes_nothing(self) -> None:
        batch, target = branch_batch(dtype=torch.float32)
        plain = selecting().float()(batch, target)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = selecting().float()(batch, target)
        assert value.dtype == torch.float32
        assert torch.equal(value, plain)

    def test_first_derivative(self) -> None:
        (logits, features), target = branch_batch(space=(2, 2))
        loss = selecting(noise_weight=0.0).eval()  # the mix of the noise set passes no gradient
        assert torch.autograd.gradcheck(lambda z: loss((z, features), target), logits)

    def test_meta_tensors(self) -> None:
        (logits, features), target = branch_batch(dtype=torch.float32)
        value = selecting().float()((logits, features), target)
        meta = (MetaTensor(logits.detach()), MetaTensor(features.detach()))
        same = selecting().float()(meta, MetaTensor(target.float()))
        assert type(same) is Tensor
        assert torch.equal(same, value.detach())


@pytest.mark.distributed
@pytest.mark.parametrize("weighted", [False, True])
def test_two_processes_have_the_loss_of_one(weighted: bool) -> None:
    """Four samples in one process, or two in each of two: the mean of both losses is the one of all."""
    whole = losses_of_share(0, 3, 4, weighted)
    halves = run_on_two(losses_of_share, 3, 2, weighted)
    for number in range(3):
        mean = (halves[0]["losses"][number] + halves[1]["losses"][number]) / 2
        assert mean == pytest.approx(whole["losses"][number], rel=1e-6)
        assert abs(halves[0]["losses"][number] - halves[1]["losses"][number]) > 1e-3
        slopes = torch.cat([torch.from_numpy(half["slopes"][number]) for half in halves]) / 2
        torch.testing.assert_close(slopes, torch.from_numpy(whole["slopes"][number]), rtol=1e-6, atol=1e-12)
    for name in ("thresholds", "totals"):
        assert halves[0][name] == halves[1][name] == whole[name]


class TestErrors:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"status": "share"}, "status must be one of"),
            ({"noise_mix": "both"}, "noise_mix must be one of"),
            ({"tau": 1.0}, r"tau must be between 0 and 1, got 1\.0"),
            ({"momentum": 1.0}, "momentum must be at least 0 and less than 1"),
            ({"noise_weight": -0.5}, r"noise_weight must not be negative, got -0\.5"),
            ({"reverse_weight": -0.5}, "reverse_weight must not be negative"),
            ({"discrepancy_weight": -0.5}, "discrepancy_weight must not be negative"),
            ({"sigmoid": True, "softmax": True}, "sigmoid and softmax exclude each other"),
        ],
    )
    def test_settings(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            CLCSLoss(num_classes=3, **settings)

    def test_input_of_another_network(self) -> None:
        (logits, features), target = branch_batch()
        with pytest.raises(TypeError, match=r"got \(2, 6, 5, 7\)\. In the bundle clcs .* --network_def#network"):
            selecting()(logits, target)
        with pytest.raises(TypeError, match="got tuple"):
            selecting()((logits,), target)
        with pytest.raises(ValueError, match="2 networks of 3 channels each, got 4 channels"):
            selecting()((logits[:, :4], features), target)
        with pytest.raises(ValueError, match="target must be class indices, in one channel; got 3"):
            selecting()((logits, features), structures(target))
