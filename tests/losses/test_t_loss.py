"""T-Loss: against arbitrary precision, its limits, its gradient, its parameter."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from reference import voxel_losses as reference
from torch import Tensor, nn

from monai_noisylabel.losses import TLoss
from monai_noisylabel.losses.t_loss import student_t_nll

SIZES = {"128^2": 128**2, "160^3": 160**3}
NUS = (1e-3, 0.26, math.e, 30.0, 1e4, 1e8)
SHARES = (1e-9, 1e-5, 1e-3, 0.02, 0.3, 1.0)  # squared error per voxel


def relative_error(found: Tensor, point: list[Tensor]) -> float:
    squared_error, nu, dimensions = (coordinate.item() for coordinate in point)
    exact = reference.student_t_nll(squared_error, nu, dimensions)
    return float(abs(found.item() / exact - 1))


def printed_form(squared_error: Tensor, nu: Tensor, dimensions: Tensor) -> Tensor:
    """The equation as printed, in the tensors' type."""
    return (
        -torch.lgamma((nu + dimensions) / 2)
        + torch.lgamma(nu / 2)
        + dimensions / 2 * torch.log(math.pi * nu)
        + (nu + dimensions) / 2 * torch.log(1 + squared_error / nu)
    )


@pytest.mark.parametrize("size", SIZES)
def test_against_arbitrary_precision(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    worst = {"float64": 0.0, "float32": 0.0, "float32 as printed": 0.0}
    for nu, share in itertools.product(NUS, SHARES):
        for dtype in (torch.float64, torch.float32):
            point = [torch.tensor(v, dtype=dtype) for v in (share * SIZES[size], nu, SIZES[size])]
            name = str(dtype).removeprefix("torch.")
            worst[name] = max(worst[name], relative_error(student_t_nll(*point), point))
        naive = relative_error(printed_form(*point), point)
        worst["float32 as printed"] = max(worst["float32 as printed"], naive)
    with capsys.disabled():
        print(f"\nD = {size}: largest relative error " + ", ".join(f"{k} {v:.1e}" for k, v in worst.items()))
    assert worst["float64"] < 1e-9
    assert worst["float32"] < 1e-6
    assert worst["float32 as printed"] > 1e-6


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("nu", [0.26, math.e, 30.0])
def test_gradient_by_nu_against_arbitrary_precision(size: str, nu: float) -> None:
    d, error = SIZES[size], 0.02 * SIZES[size]
    degrees = torch.tensor(nu, dtype=torch.float64, requires_grad=True)
    point = torch.tensor(error, dtype=torch.float64), degrees, torch.tensor(d, dtype=torch.float64)
    (slope,) = torch.autograd.grad(student_t_nll(*point), degrees)
    step = 2.0**-30  # nu plus or minus which is exact in float64
    upper, lower = (reference.student_t_nll(error, nu + sign * step, d, digits=80) for sign in (1, -1))
    assert slope.item() == pytest.approx(float((upper - lower) / (2 * step)), rel=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_the_loss_itself_at_full_size_in_float32(size: str) -> None:
    # p = sigmoid(z) of one float32 logit everywhere, label 0: delta^2 = D p^2
    shape = {"128^2": (128, 128), "160^3": (160, 160, 160)}[size]
    logit = torch.tensor(-2.0)
    value = TLoss(sigmoid=True)(logit.expand(1, 1, *shape), torch.zeros(1, 1, *shape))
    exact = reference.student_t_nll(SIZES[size] * torch.sigmoid(logit).item() ** 2, math.e, SIZES[size])
    assert value.item() == pytest.approx(float(exact), rel=1e-6)


@pytest.mark.parametrize("d", [0.0, 0.5, 1.0, 7.0, 19.0, 21.0, 1e3])
def test_every_number_of_dimensions(d: float) -> None:
    point = [torch.tensor(v, dtype=torch.float64) for v in (0.3 * d, 2.5, d)]
    assert student_t_nll(*point).item() == pytest.approx(float(reference.student_t_nll(0.3 * d, 2.5, d)), abs=1e-11)


def test_cauchy_by_hand() -> None:
    # D = 1, nu = 1: density 1 / (pi (1 + delta^2))
    value = student_t_nll(torch.tensor(9.0), torch.tensor(1.0), torch.tensor(1.0))
    assert value.item() == pytest.approx(math.log(10 * math.pi), rel=1e-6)


def test_large_nu_is_a_gaussian() -> None:
    error, d = torch.tensor(37.0, dtype=torch.float64), torch.tensor(100.0, dtype=torch.float64)
    gaussian = 50 * math.log(2 * math.pi) + 37 / 2
    assert student_t_nll(error, torch.tensor(1e12, dtype=torch.float64), d).item() == pytest.approx(gaussian, rel=1e-9)


@pytest.mark.parametrize("nu", [0.5, math.e, 50.0])
def test_gradient_by_the_prediction(nu: float) -> None:
    # sigmoid, D = 4: dL/dp = (nu + D) delta / (nu + |delta|^2), times p (1 - p)
    logits = torch.tensor([[[-1.0, 0.5, 2.0, 0.0]]], requires_grad=True)
    target = torch.tensor([[[0.0, 1.0, 0.0, 1.0]]])
    TLoss(math.log(nu), sigmoid=True)(logits, target).backward()
    p = logits.detach().sigmoid()
    delta = p - target
    torch.testing.assert_close(logits.grad, (nu + 4) * delta / (nu + delta.square().sum()) * p * (1 - p))


def test_precision_of_the_released_code() -> None:
    # log-precision 1 on every voxel: |delta|^2 times e, minus D / 2
    logits, target = torch.randn(1, 1, 6), torch.zeros(1, 1, 6)
    delta = logits.sigmoid().square().sum().item()
    value = TLoss(precision=math.e, sigmoid=True)(logits, target).item()
    assert value == pytest.approx(float(reference.student_t_nll(math.e * delta, math.e, 6)) - 3, rel=1e-5)


def test_per_voxel_divides_by_the_size_of_the_label() -> None:
    logits, target = torch.randn(2, 3, 6, 5), torch.randint(0, 3, (2, 1, 6, 5))
    torch.testing.assert_close(TLoss(per_voxel=True)(logits, target), TLoss()(logits, target) / 90)
    structures = TLoss(per_voxel=True, sigmoid=True)(logits, target)
    torch.testing.assert_close(structures, TLoss(sigmoid=True)(logits, target) / 30)
    # weights: over the sum of weights
    weight = torch.rand(2, 1, 6, 5)
    total = TLoss(reduction="sum")(logits, target, weight)
    torch.testing.assert_close(TLoss(per_voxel=True)(logits, target, weight), total / (3 * weight.sum()))


def test_weights_enter_error_and_dimensions() -> None:
    # p = 1/2 twice, label 0, weights 1 and 1/2: delta^2 = 3/8, D = 3/2; one sample of mean weight 3/4
    value = TLoss(sigmoid=True)(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2), torch.tensor([[[1.0, 0.5]]]))
    assert value.item() == pytest.approx(float(reference.student_t_nll(3 / 8, math.e, 1.5)) / 0.75, rel=1e-6)


def exactly(squared_errors: Tensor, dimensions: int) -> Tensor:
    """The loss of every squared error, of any form, at nu = e."""
    values = [float(reference.student_t_nll(error, math.e, dimensions)) for error in squared_errors.flatten().tolist()]
    return torch.tensor(values).view(squared_errors.shape)


def test_exclusive_classes_are_one_label() -> None:
    logits, target = torch.randn(2, 3, 6, 5), torch.randint(0, 3, (2, 1, 6, 5))
    one_hot = torch.cat([target == c for c in range(3)], 1).float()
    squared = (logits.softmax(1) - one_hot).square().sum((2, 3))
    each = exactly(squared.sum(1, keepdim=True), 90)
    torch.testing.assert_close(TLoss(reduction="none")(logits, target)[..., 0, 0], each)
    foreground = exactly(squared[:, 1:].sum(1), 60)
    torch.testing.assert_close(TLoss(include_background=False)(logits, target), foreground.mean())


def test_independent_structures_are_labels_of_their_own() -> None:
    logits, target = torch.randn(2, 3, 6, 5), torch.randint(0, 2, (2, 3, 6, 5))
    squared = (logits.sigmoid() - target).square().sum((2, 3))
    torch.testing.assert_close(TLoss(sigmoid=True, reduction="none")(logits, target)[..., 0, 0], exactly(squared, 30))
    torch.testing.assert_close(TLoss(sigmoid=True)(logits, target), exactly(squared, 30).mean())


def test_nu_learns_in_its_own_group() -> None:
    # a residual of half the samples wrong: heavy tails fit better, so nu falls from e
    torch.manual_seed(0)
    network, loss = nn.Conv2d(1, 1, 1), TLoss(sigmoid=True, per_voxel=True)
    optimizer = torch.optim.Adam([{"params": network.parameters(), "lr": 0.0}, loss.parameter_group(lr=0.05)])
    image = torch.randn(2, 1, 8, 8)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    assert loss.nu.item() == pytest.approx(math.e)
    values = []
    for _ in range(40):
        optimizer.zero_grad()
        value = loss(network(image), torch.zeros(2, 1, 8, 8))
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0]
    assert loss.nu.item() != pytest.approx(math.e, rel=0.1)
    assert all(torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True))


def test_group_has_the_rate_of_the_paper_and_no_decay() -> None:
    group = TLoss().parameter_group()
    assert (group["lr"], group["weight_decay"]) == (1e-3, 0.0)


def test_nu_is_saved_and_restored() -> None:
    loss, other = TLoss(init_log_nu=0.3), TLoss()
    other.load_state_dict(loss.state_dict())
    assert other.nu.item() == pytest.approx(math.exp(0.3))


@pytest.mark.parametrize("precision", [0.0, -1.0, math.nan])
def test_precision_must_be_positive(precision: float) -> None:
    with pytest.raises(ValueError, match="precision must be positive"):
        TLoss(precision=precision)


def test_start_must_be_finite() -> None:
    with pytest.raises(ValueError, match="init_log_nu must be finite"):
        TLoss(init_log_nu=math.inf)
