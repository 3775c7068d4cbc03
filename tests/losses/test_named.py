"""Losses by the short names of the papers' tables."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from monai_noisylabel.losses import NAMED_LOSSES, named_loss

# Two voxels of probability 0.8 and 0.5 for their labels, two classes; GCE with q = 0.7, RCE with log 1e-4.
LOGITS = torch.tensor([[0.8, 0.5], [0.2, 0.5]]).log()[None]
TARGET = torch.tensor([[[0, 1]]])
A = -math.log(1e-4)
NCE = (math.log(0.8) / (math.log(0.8) + math.log(0.2)) + 0.5) / 2
NGCE = ((1 - 0.8**0.7) / (2 - 0.8**0.7 - 0.2**0.7) + 0.5) / 2
VALUES = {
    "CE": -(math.log(0.8) + math.log(0.5)) / 2,
    "MAE": 2 * 0.35,
    "RCE": A * 0.35,
    "SCE": -0.1 * (math.log(0.8) + math.log(0.5)) / 2 + A * 0.35,
    "GCE": (2 - 0.8**0.7 - 0.5**0.7) / 0.7 / 2,
    "NCE": NCE,
    "NGCE": NGCE,
    "NCE+MAE": NCE + 0.7,
    "NCE+RCE": NCE + A * 0.35,
    "NGCE+MAE": NGCE + 0.7,
    "NGCE+RCE": NGCE + A * 0.35,
    "NR-Dice": ((0.2**1.5 + 0.5**1.5) / (0.8**2 + 0.5**2 + 1) + (0.2**1.5 + 0.5**1.5) / (0.2**2 + 0.5**2 + 1)) / 2,
    "forward": -(math.log(0.8 * 0.9 + 0.2 * 0.3) + math.log(0.5 * 0.1 + 0.5 * 0.7)) / 2,
    "backward": None,
}
TRANSITION = {"transition": [[0.9, 0.1], [0.3, 0.7]]}


def settings_of(name: str) -> dict[str, Any]:
    return TRANSITION if name in ("forward", "backward") else {}


@pytest.mark.parametrize("name", NAMED_LOSSES)
def test_every_name_means_its_equation(name: str) -> None:
    value = named_loss(name, settings_of(name))(LOGITS, TARGET).item()
    if name == "backward":  # its defining property: on average over the noise it is the loss of the clean label
        noisy = [named_loss(name, TRANSITION)(LOGITS[..., :1], torch.tensor([[[y]]])).item() for y in (0, 1)]
        assert 0.9 * noisy[0] + 0.1 * noisy[1] == pytest.approx(-math.log(0.8), rel=1e-5)
    else:
        assert value == pytest.approx(VALUES[name], rel=1e-5)


@pytest.mark.parametrize("name", NAMED_LOSSES)
def test_flags_reach_the_loss(name: str) -> None:
    loss = named_loss(name, settings_of(name), sigmoid=True, reduction="none")
    assert loss(torch.zeros(2, 3, 4, 5), torch.ones(2, 3, 4, 5)).shape[:2] == (2, 3)


def test_settings_reach_the_loss() -> None:
    assert named_loss("GCE", {"q": 0.5})(LOGITS, TARGET).item() == pytest.approx((2 - 0.8**0.5 - 0.5**0.5), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("gce", {}, "loss must be one of CE, MAE, .* got 'gce'"),
        ("T-Loss", {}, "T-Loss has a bundle of its own"),
        ("SCE", {"q": 0.5, "alpha": 1}, r"Loss SCE has no settings \['q'\]; it has \['alpha', 'beta', 'clip'\]"),
        ("CE", {"reduction": "sum"}, r"Loss CE has no settings \['reduction'\]; it has none"),
        ("forward", {}, "Loss forward needs the transition matrix"),
        ("backward", {**TRANSITION, "loss": None}, r"no settings \['loss'\]; it has \['transition'\]"),
        ("GCE", {"q": 2}, "q must be above 0"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        named_loss(name, settings)
