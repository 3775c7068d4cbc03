"""The loss of two networks on superpixels against loops over the equations, and its limits."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from reference import superpixel_loops as loops
from torch import Tensor

from monai_noisylabel.losses import SuperpixelLoss

SPACES = [(6, 7), (3, 4, 5)]
PLAIN: dict[str, Any] = {"per_class": False, "class_balanced": False, "ramp_epochs": 0}


def batch(space: tuple[int, ...], classes: int = 3, multi_label: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of two networks, labels in which the last class is absent, ids from 1 with gaps."""
    generator = torch.Generator().manual_seed(9)
    logits = torch.randn(2, 2 * classes, *space, generator=generator, dtype=torch.float64)
    labels = classes if multi_label else 1
    label = torch.randint(2, (2, labels, *space), generator=generator)
    ids = torch.tensor([1, 2, 4, 5, 9, 10])[torch.randint(6, (2, 1, *space), generator=generator)]
    return logits.requires_grad_(), label, ids


def target_of(label: Tensor, ids: Tensor) -> Tensor:
    return torch.cat([label, ids], 1).float()


def probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    first, second = logits.detach().chunk(2, 1)
    return first.softmax(1), second.softmax(1)


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("rate", [Fraction(1, 10), Fraction(6, 10), Fraction(1)], ids=str)
def test_loss_and_gap_of_images_equal_the_loops(space: tuple[int, ...], rate: Fraction) -> None:
    logits, label, ids = batch(space)
    loss = SuperpixelLoss(3, float(rate), scope="image", **PLAIN)
    for row in range(2):
        p, q = (part[row].numpy() for part in probabilities(logits))
        image, numbers = label[row, 0].numpy(), ids[row, 0].numpy()
        losses = loops.superpixel_losses(p, q, image, numbers)
        sizes = {k: len(pixels) for k, pixels in loops.members(numbers).items()}
        chosen = loops.select(losses, sizes, rate)
        loss.epoch = 0
        value = loss(logits[row : row + 1], target_of(label, ids)[row : row + 1])
        assert value.item() == pytest.approx(loops.training_loss(p, q, image, numbers, chosen), rel=1e-6)
        assert math.isnan(loss.gap) if rate == 1 else loss.gap == pytest.approx(loops.gap(losses, chosen), rel=1e-6)


def test_scope_batch_is_one_image_of_all_superpixels() -> None:
    logits, label, ids = batch((6, 7))
    both = SuperpixelLoss(3, 0.5, **PLAIN)
    one = SuperpixelLoss(3, 0.5, scope="image", **PLAIN)
    value = both(logits, target_of(label, ids))
    # side by side, with ids of their own
    joined = torch.cat([logits[0], logits[1]], -1)[None], torch.cat([label[0], label[1]], -1)[None]
    side_by_side = one(joined[0], target_of(joined[1], torch.cat([ids[0], ids[1] + 20], -1)[None]))
    assert value.item() == pytest.approx(side_by_side.item())
    assert both.gap == pytest.approx(one.gap)
    each = SuperpixelLoss(3, 0.5, scope="image", **PLAIN)
    each(logits, target_of(label, ids))
    assert each.gap_sum[1] == 2
    assert each.gap != pytest.approx(both.gap)


def strip(losses: list[float], labels: list[int], size: int = 2) -> tuple[Tensor, Tensor]:
    """Two equal networks on superpixels of given size with given values of -log p of their labels."""
    p = torch.tensor(losses).neg().exp().repeat_interleave(size)
    label = torch.tensor(labels).repeat_interleave(size).view(1, 1, -1)
    one = torch.where(label[0, 0] == 1, p, 1 - p)
    logits = torch.stack([1 - one, one]).log().repeat(2, 1)[None]
    ids = torch.arange(1, len(losses) + 1).repeat_interleave(size).view(1, 1, -1)
    return logits, target_of(label, ids)


def test_rates_of_classes() -> None:
    # of class 0 the losses 0.1 0.2 0.3 0.45, half are kept; of class 1 the losses 0.5 0.6, all
    logits, target = strip([0.1, 0.45, 0.2, 0.3, 0.5, 0.6], [0, 0, 0, 0, 1, 1])
    settings: dict[str, Any] = {"keep_rates": [0.5, 1.0], "ramp_epochs": 0}
    plain = SuperpixelLoss(2, class_balanced=False, **settings)
    assert plain(logits, target).item() == pytest.approx(0.7 * (0.1 + 0.2 + 0.5 + 0.6) / 4, rel=1e-4)
    assert plain.gap == pytest.approx(0.7 * ((0.3 + 0.45) / 2 - (0.1 + 0.2 + 0.5 + 0.6) / 4), rel=1e-4)
    balanced = SuperpixelLoss(2, **settings)
    assert balanced(logits, target).item() == pytest.approx(0.7 * (0.15 + 0.55) / 2, rel=1e-4)
    # as one share: (4 * 0.5 + 2 * 1) / 6 = 2/3 of all, the four smallest
    pooled = SuperpixelLoss(2, per_class=False, class_balanced=False, **settings)
    assert pooled(logits, target).item() == pytest.approx(0.7 * (0.1 + 0.2 + 0.3 + 0.45) / 4, rel=1e-4)


def test_a_class_that_is_absent_does_not_count() -> None:
    logits, target = strip([0.1, 0.3], [0, 0])
    assert SuperpixelLoss(2, ramp_epochs=0)(logits, target).item() == pytest.approx(0.7 * 0.2, rel=1e-4)
    three = torch.cat([logits[:, :2], logits[:, :1] - 50, logits[:, 2:], logits[:, :1] - 50], 1)
    assert SuperpixelLoss(3, ramp_epochs=0)(three, target).item() == pytest.approx(0.7 * 0.2, rel=1e-4)


def test_keep_rate_0_gives_0_and_no_gradient() -> None:
    logits, label, ids = batch((6, 7))
    for settings in ({}, {"class_balanced": False}, {"variant": "released"}):
        loss = SuperpixelLoss(3, 0.0, ramp_epochs=0, **settings)
        value = loss(logits, target_of(label, ids))
        assert value.item() == 0
        assert not torch.autograd.grad(value, logits)[0].any()


def test_keep_rate_1_is_the_plain_joint_loss() -> None:
    logits, label, ids = batch((6, 7))
    value = SuperpixelLoss(3, 1.0, **PLAIN)(logits, target_of(label, ids))
    first, second = logits.chunk(2, 1)
    entropies = sum(torch.nn.functional.cross_entropy(part, label[:, 0]) for part in (first, second))
    p, q = (part.log_softmax(1) for part in (first, second))
    divergence = ((p.exp() - q.exp()) * (p - q)).sum(1).mean()
    expected = 0.35 * entropies + 0.65 * divergence
    torch.testing.assert_close(value, expected)
    gradients = [torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in (value, expected)]
    torch.testing.assert_close(*gradients)


def test_forget_rate_rises_over_the_first_epochs() -> None:
    # ten superpixels of rising loss; the forget rate 1/2 comes in five steps of a tenth: one superpixel each
    logits, target = strip([0.1 * n for n in range(1, 11)], [0] * 10)
    loss = SuperpixelLoss(2, 0.5)
    kept = []
    for loss.epoch in range(8):
        value = loss(logits, target).item() / 0.7
        kept.append(round(20 * value - 1))  # the mean of 0.1 to n / 10 is (n + 1) / 20
    assert kept == [10, 9, 8, 7, 6, 5, 5, 5]
    loss.first_epoch = 6
    loss.epoch = 6
    assert loss(logits, target).item() / 0.7 == pytest.approx(0.55, rel=1e-4)
    assert loss.falling
    loss.epoch = 11
    assert not loss.falling


def test_gap_is_the_mean_over_the_batches_of_an_epoch() -> None:
    loss = SuperpixelLoss(2, 0.5, per_class=False, ramp_epochs=0)
    assert math.isnan(loss.gap)
    batches = [strip([0.1, 0.5], [0, 1]), strip([0.2, 1.0], [0, 1]), strip([0.2], [0])]
    for logits, target in batches:  # the last one has a single superpixel: no gap
        loss(logits, target)
    assert loss.gap_sum == (pytest.approx(0.7 * (0.4 + 0.8), rel=1e-4), 2)
    assert loss.gap == pytest.approx(0.7 * 0.6, rel=1e-4)
    loss.eval()(*batches[0])
    assert loss.gap_sum[1] == 2
    loss.epoch = 1
    assert math.isnan(loss.gap)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_released_compares_voxels_with_averaged_probabilities(space: tuple[int, ...]) -> None:
    logits, label, ids = batch(space, classes=2)
    rates = (0.7, 0.5)
    loss = SuperpixelLoss(2, rates, ramp_epochs=0, variant="released")
    value = loss(logits, target_of(label, ids)).item()
    chosen, rest = released_voxels(logits, label, ids, rates)
    assert value == pytest.approx(balanced(chosen), rel=1e-6)
    assert loss.gap == pytest.approx(balanced(rest) - balanced(chosen), rel=1e-6)
    everything = SuperpixelLoss(2, 1.0, ramp_epochs=0, variant="released")
    value = everything(logits, target_of(label, ids)).item()
    assert everything.gap == pytest.approx(-value), "without a rest the gap is minus the loss, as in the code"


def released_voxels(
    logits: Tensor, label: Tensor, ids: Tensor, rates: tuple[float, float]
) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """Class and loss of the voxels that are kept and of the others: units of equal loss are kept as a whole."""
    ranked: list[tuple[float, int, int, int]] = []  # loss of the averaged probabilities, image, superpixel, class
    values: dict[tuple[int, int, int], list[float]] = {}
    p, q = (part.numpy() for part in probabilities(logits))
    for row in range(2):
        numbers = ids[row, 0].numpy()
        first, second = loops.means(p[row], numbers), loops.means(q[row], numbers)
        for k, pixels in loops.members(numbers).items():
            for position in pixels:
                given = int(label[row, 0][position])
                one_hot = [float(given == c) for c in range(2)]
                at = (row, slice(None), *position)
                values.setdefault((row, k, given), []).append(loops.joint_loss(p[at], q[at], one_hot, 0.65))
                if len(values[row, k, given]) == 1:
                    ranked.append((loops.joint_loss(first[k], second[k], one_hot, 0.65), row, k, given))
    parts: tuple[list[tuple[int, float]], list[tuple[int, float]]] = ([], [])
    held = [0, 0]
    totals = [int((label == c).sum()) for c in range(2)]
    for _, row, k, given in sorted(ranked):
        voxels = values[row, k, given]
        parts[int(held[given] >= rates[given] * totals[given])].extend((given, value) for value in voxels)
        held[given] += len(voxels)
    return parts


def balanced(voxels: list[tuple[int, float]]) -> float:
    by_class = [[value for given, value in voxels if given == c] for c in range(2)]
    return sum(sum(part) / len(part) for part in by_class) / 2


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize("settings", [{}, {"scope": "image"}, {"variant": "released"}, {"per_class": False}], ids=str)
def test_multi_label_is_a_problem_of_two_classes_per_channel(space: tuple[int, ...], settings: dict[str, Any]) -> None:
    logits, label, ids = batch(space, classes=2, multi_label=True)
    rates = [[0.8, 0.5], [0.6, 0.9]]
    both = SuperpixelLoss(2, rates, ramp_epochs=0, sigmoid=True, **settings)
    value = both(logits, target_of(label, ids))
    alone, gaps = [], []
    for channel in range(2):
        pair = logits[:, [channel, 2 + channel]]
        zeros = torch.zeros_like(pair[:, :1])
        two = SuperpixelLoss(2, rates[channel], ramp_epochs=0, **settings)
        stacked = torch.cat([zeros, pair[:, :1], zeros, pair[:, 1:]], 1)
        alone.append(two(stacked, target_of(label[:, channel : channel + 1], ids)))
        gaps.append(two.gap_sum)
    torch.testing.assert_close(value, (alone[0] + alone[1]) / 2)
    if settings.get("variant") != "released":
        assert both.gap_sum == tuple(map(pytest.approx, map(sum, zip(*gaps, strict=True))))


def test_padding_and_weight_0_are_outside() -> None:
    logits, label, ids = batch((6, 7))
    kept = torch.ones(2, 1, 6, 7)
    kept[..., 5:] = 0
    for settings in ({}, PLAIN, {"variant": "released"}):
        loss = SuperpixelLoss(3, 0.6, **{"ramp_epochs": 0, **settings})
        cropped = loss(logits[..., :5], target_of(label, ids)[..., :5])
        for value in (
            loss(logits, target_of(label, ids * kept)),
            loss(logits, target_of(label, ids), kept),
            loss(logits, target_of(label, torch.where(kept > 0, ids, -5))),
        ):
            torch.testing.assert_close(value, cropped)
            assert not torch.autograd.grad(value, logits)[0][..., 5:].any()
    nothing = SuperpixelLoss(3)(logits, target_of(label, ids * 0))
    assert nothing.item() == 0


def test_weights() -> None:
    logits, target = strip([0.2, 0.6], [0, 1])
    loss = SuperpixelLoss(2, class_balanced=False)
    weight = torch.tensor([1.0, 1.0, 0.5, 0.5]).view(1, 1, 4)
    assert loss(logits, target, weight).item() == pytest.approx(0.7 * (2 * 0.2 + 0.6) / 3, rel=1e-4)
    assert torch.equal(loss(logits, target, torch.ones(1)), loss(logits, target))
    twice, both = logits.repeat(2, 1, 1), target.repeat(2, 1, 1)
    both[1, 0] = 1 - both[1, 0]
    torch.testing.assert_close(loss(twice, both, torch.tensor([1.0, 0.0])), loss(logits, target))
    logits, label, ids = batch((6, 7), multi_label=True)
    channels = SuperpixelLoss(3, 0.6, ramp_epochs=0, sigmoid=True)
    alone = channels(logits[:1], target_of(label, ids)[:1])
    torch.testing.assert_close(channels(logits, target_of(label, ids), torch.tensor([1.0, 0.0])), alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("variant", ["paper", "released"])
def test_extreme_logits_stay_finite(dtype: torch.dtype, sigmoid: bool, variant: Any) -> None:
    extremes = torch.tensor([-200.0, 0.0, 200.0], dtype=dtype)
    logits = torch.cartesian_prod(*[extremes] * 4).T.reshape(1, 4, 9, 9).requires_grad_()
    ids = torch.arange(1, 82).view(1, 1, 9, 9)
    for given in range(2):
        label = torch.full((1, 2 if sigmoid else 1, 9, 9), given)
        loss = SuperpixelLoss(2, 0.5, ramp_epochs=0, sigmoid=sigmoid, variant=variant)
        value = loss(logits, target_of(label, ids))
        slope = torch.autograd.grad(value, logits)[0]
        assert value.dtype == torch.float32
        assert math.isfinite(value.item())
        assert math.isfinite(loss.gap)
        assert slope.isfinite().all()


def test_gradient_is_that_of_the_equation() -> None:
    logits, label, ids = batch((2, 2))
    for settings in ({}, PLAIN, {"variant": "released"}):
        loss = SuperpixelLoss(3, 0.6, **{"ramp_epochs": 0, **settings})
        assert torch.autograd.gradcheck(lambda z, loss=loss: loss(z, target_of(label, ids)), logits)


def test_autocast_meta_tensors_and_types_change_nothing() -> None:
    logits, label, ids = batch((6, 7))
    loss = SuperpixelLoss(3, 0.6, ramp_epochs=0)
    value = loss(logits, target_of(label, ids))
    assert torch.equal(loss(logits, torch.cat([label, ids], 1)), value)
    found = loss(MetaTensor(logits), MetaTensor(target_of(label, ids)), MetaTensor(torch.ones(2, 1, 6, 7)))
    assert type(found) is Tensor
    assert torch.equal(found, value)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(logits, target_of(label, ids)), value)


def test_state_holds_the_rates() -> None:
    loss = SuperpixelLoss(2, [0.5, 0.75])
    loss.keep_rates.mul_(0.5)
    other = SuperpixelLoss(2)
    other.load_state_dict(loss.state_dict())
    assert other.keep_rates.tolist() == [0.25, 0.375]
    assert list(loss.state_dict()) == ["keep_rates"]
    assert SuperpixelLoss(3, 0.5, sigmoid=True).keep_rates.shape == (3, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_classes": 1}, "num_classes must be at least 2, got 1"),
        ({"num_classes": 0, "sigmoid": True}, "num_classes must be at least 1, got 0"),
        ({"keep_rates": 1.1}, r"keep_rates are shares between 0 and 1, got 1.1"),
        ({"keep_rates": [0.5] * 3}, r"one for every class, background first, form \(2,\); got form \(3,\)"),
        ({"keep_rates": [0.5, 0.5], "sigmoid": True}, r"form \(2, 2\)"),
        ({"lam": 1.5}, r"lam must lie in \[0, 1\], got 1.5"),
        ({"ramp_epochs": -1}, "ramp_epochs must not be negative, got -1"),
        ({"scope": "set"}, r"scope must be one of \('batch', 'image'\), got 'set'"),
        ({"variant": "code"}, r"variant must be one of \('paper', 'released'\), got 'code'"),
        ({"sigmoid": True, "softmax": True}, "sigmoid and softmax exclude each other"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SuperpixelLoss(**{"num_classes": 2, **settings})


def test_shapes_that_do_not_fit_are_refused() -> None:
    logits, label, ids = batch((6, 7))
    loss = SuperpixelLoss(3)
    with pytest.raises(ValueError, match=r"logits \(B, 6, \*S\) of two networks with 3 channels each .* got \(2, 3, 6"):
        loss(logits[:, :3], target_of(label, ids))
    with pytest.raises(ValueError, match=r"1 channel\(s\) of labels and one of superpixel ids.*got \(2, 1, 6, 7\)"):
        loss(logits, label)
    with pytest.raises(ValueError, match=r"form \(2, 2, 6, 7\), got \(2, 2, 6, 5\)"):
        loss(logits, target_of(label, ids)[..., :5])
    with pytest.raises(ValueError, match=r"The weight must have the form \(2,\) or \(2, 1, 6, 7\)"):
        loss(logits, target_of(label, ids), torch.ones(2, 6, 7))
    with pytest.raises(ValueError, match="Labels must hold the classes 0 to 2"):
        loss(logits, target_of(label + 2, ids))
