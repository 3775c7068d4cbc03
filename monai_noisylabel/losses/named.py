"""The robust losses by the short names that papers give them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from .active_passive import NCEandMAELoss, NCEandRCELoss, NGCEandMAELoss, NGCEandRCELoss
from .corrected import BackwardCorrectedLoss, ForwardCorrectedLoss
from .cross_entropy import CrossEntropyLoss
from .generalized_cross_entropy import GeneralizedCrossEntropyLoss
from .mean_absolute_error import MeanAbsoluteErrorLoss
from .noise_robust_dice import NoiseRobustDiceLoss
from .normalized import NormalizedCrossEntropyLoss, NormalizedGeneralizedCrossEntropyLoss
from .reverse_cross_entropy import ReverseCrossEntropyLoss
from .symmetric_cross_entropy import SymmetricCrossEntropyLoss

__all__ = ["NAMED_LOSSES", "named_loss"]

NAMED_LOSSES: dict[str, type[nn.Module]] = {
    "CE": CrossEntropyLoss,
    "MAE": MeanAbsoluteErrorLoss,
    "RCE": ReverseCrossEntropyLoss,
    "SCE": SymmetricCrossEntropyLoss,
    "GCE": GeneralizedCrossEntropyLoss,
    "NCE": NormalizedCrossEntropyLoss,
    "NGCE": NormalizedGeneralizedCrossEntropyLoss,
    "NCE+MAE": NCEandMAELoss,
    "NCE+RCE": NCEandRCELoss,
    "NGCE+MAE": NGCEandMAELoss,
    "NGCE+RCE": NGCEandRCELoss,
    "NR-Dice": NoiseRobustDiceLoss,
    "forward": ForwardCorrectedLoss,
    "backward": BackwardCorrectedLoss,
}
"""Losses by the names that tables of results use. T-Loss is not among them: its nu needs an optimizer."""

FLAGS = ("include_background", "to_onehot_y", "sigmoid", "softmax", "reduction")


def named_loss(name: str, settings: Mapping[str, Any] | None = None, **flags: Any) -> nn.Module:
    """A robust loss by its short name, for configurations that choose one.

    Args:
        name: a name in :data:`NAMED_LOSSES`. ``"forward"`` and ``"backward"`` are cross entropy, corrected.
        settings: the loss's own arguments, such as ``{"q": 0.5}`` or ``{"transition": [[0.9, 0.1], [0.3, 0.7]]}``.
        flags: ``include_background``, ``sigmoid``, ``softmax``, ``reduction``; see
            :class:`~monai_noisylabel.losses.voxelwise.VoxelwiseLoss`.

    Raises:
        ValueError: for an unknown name or setting, a setting that is missing, or where the loss raises.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[0.8, 0.5], [0.2, 0.5]]).log()[None]
        >>> named_loss("GCE", {"q": 1.0})(logits, torch.tensor([[[0, 1]]])).item()  # (0.2 + 0.5) / 2
        0.35
        >>> named_loss("gce")
        Traceback (most recent call last):
        ValueError: loss must be one of CE, MAE, RCE, SCE, GCE, NCE, NGCE, NCE+MAE, NCE+RCE, NGCE+MAE, NGCE+RCE, NR-Dice, forward, backward, got 'gce'. T-Loss has a bundle of its own, t_loss.
    """  # noqa: E501
    if name not in NAMED_LOSSES:
        raise ValueError(
            f"loss must be one of {', '.join(NAMED_LOSSES)}, got {name!r}. T-Loss has a bundle of its own, t_loss."
        )
    given = dict(settings or {})
    known = [parameter for parameter in inspect.signature(NAMED_LOSSES[name]).parameters if parameter not in FLAGS]
    corrected = name in ("forward", "backward")
    if corrected:
        known.remove("loss")
    unknown = [setting for setting in given if setting not in known]
    if unknown:
        raise ValueError(f"Loss {name} has no settings {unknown}; it has {known or 'none'}.")
    if corrected and "transition" not in given:
        raise ValueError(
            f"Loss {name} needs the transition matrix of the noise: give its settings as "
            "{'transition': [[P(noisy = 0 | clean = 0), P(noisy = 1 | clean = 0)], ...]}."
        )
    build: Callable[..., nn.Module] = NAMED_LOSSES[name]
    return build(**given, loss=CrossEntropyLoss(**flags)) if corrected else build(**given, **flags)
