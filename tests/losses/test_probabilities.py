"""Probabilities out of logits: what is computed when, and how exactly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from monai_noisylabel.losses import MeanAbsoluteErrorLoss, ReverseCrossEntropyLoss
from monai_noisylabel.losses.probabilities import (
    ClassProbabilities,
    LabelAndOther,
    Probabilities,
    class_probabilities,
)

LOGITS = 5 * torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0))


def refused() -> Tensor:
    raise AssertionError("not to be computed")


def test_softmax_and_its_logarithm() -> None:
    classes = class_probabilities(LOGITS)
    exact = LOGITS.double().softmax(1)
    torch.testing.assert_close(classes.p.double(), exact, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(class_probabilities(LOGITS).log_p.double(), exact.log(), rtol=1e-6, atol=1e-6)


def test_one_channel_is_two_classes() -> None:
    # z = log 3: p = 1/4, 3/4
    classes = class_probabilities(torch.full((1, 1, 1), math.log(3)))
    assert classes.count == 2
    assert classes.p.flatten().tolist() == pytest.approx([0.25, 0.75])
    assert classes.log_p.flatten().tolist() == pytest.approx([math.log(0.25), math.log(0.75)])


@pytest.mark.parametrize("q", [1e-3, 0.7, 1.0])
def test_powers_are_as_exact_as_their_logarithms(q: float) -> None:
    # a relative error of eps in q log p is an error of eps |q log p| in its power
    log_p = LOGITS.log_softmax(1)
    power = Probabilities(lambda: log_p, refused).power(q)
    exact = (q * log_p.double()).exp()
    allowed = 2 * torch.finfo(torch.float32).eps * (1 + (q * log_p).abs())
    assert ((power / exact - 1).abs() <= allowed).all()


def test_only_what_is_asked_for_is_computed() -> None:
    one = Probabilities(refused, lambda: torch.tensor(0.25))
    assert one.p.item() == 0.25
    assert MeanAbsoluteErrorLoss().equation(one, torch.ones(())).item() == 1.5
    assert MeanAbsoluteErrorLoss().falls(one, torch.ones(())).by_log_p.item() == 0.5
    assert ReverseCrossEntropyLoss(clip=math.exp(-4)).falls(one, torch.ones(())).value.item() == pytest.approx(3)
    # or not even that
    given = Probabilities(refused, torch.tensor(0.25))
    assert given.p.item() == 0.25
    # out of logarithms that are there already
    other = Probabilities(lambda: torch.tensor(0.25).log(), refused)
    assert other.log_p.item() == pytest.approx(-math.log(4))
    assert other.p.item() == pytest.approx(0.25)


def test_taken_probabilities_replace_the_logarithms() -> None:
    log_p = LOGITS.log_softmax(1)
    address, exact = log_p.data_ptr(), log_p.exp()
    classes = ClassProbabilities(3, lambda: log_p, refused)
    assert classes.log_p is log_p
    taken = classes._take_p()
    assert taken.data_ptr() == address
    torch.testing.assert_close(taken, exact)


def test_label_and_other() -> None:
    # margin log 3: p_y = 3/4; sums over both classes
    both = LabelAndOther(torch.tensor([math.log(3)]))
    assert both.label.p.item() == pytest.approx(0.75)
    assert both.other.log_p.item() == pytest.approx(math.log(0.25))
    assert both.sum(lambda one: one.p).item() == pytest.approx(1)
    assert both.sum(lambda one: one.power(2)).item() == pytest.approx(9 / 16 + 1 / 16)


@pytest.mark.parametrize("margin", [-200.0, 200.0])
def test_far_logits_stay_finite_with_two_classes(margin: float) -> None:
    both = LabelAndOther(torch.tensor([margin]))
    assert (both.label.log_p - both.other.log_p).item() == margin
    assert min(both.label.log_p.item(), both.other.log_p.item()) == -200
