"""Small-loss selection: in every class, the voxels of largest loss are taken to be labelled wrongly and left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Scope", "as_keep_rates", "class_balanced_mean", "forget_rates", "small_loss_weight"]

Scope = Literal["batch", "image"]


def forget_rates(epoch: float, keep_rates: Tensor, ramp_epochs: float = 5) -> Tensor:
    r"""Share of every class that is left out in an epoch: from 0 up to 1 - R, linearly, then constant.

    .. math:: f_c(e) = (1 - R_c) \min(1, e / E_r)

    Networks fit what labels have in common before they fit single errors, so an untrained one must not judge yet.

    Args:
        epoch: training epoch e, from 0.
        keep_rates: R_c in [0, 1], the share of the voxels given class c whose label is right.
        ramp_epochs: E_r, length of the ramp; the paper: 5. 0 leaves out the whole share from the start.

    Shape:
        keep_rates of any shape; result the same.

    Example:
        >>> [round(forget_rates(e, torch.tensor(0.7)).item(), 3) for e in (0, 1, 5, 100)]
        [0.0, 0.06, 0.3, 0.3]

    References:
        B. Han et al., Co-teaching: robust training of deep neural networks with extremely noisy labels, NeurIPS 2018,
        algorithm 1.
    """
    return (1 - keep_rates) * (1.0 if epoch >= ramp_epochs else epoch / ramp_epochs)


def as_keep_rates(
    keep_rates: float | Sequence[float] | Sequence[Sequence[float]], num_classes: int, multi_label: bool
) -> Tensor:
    r"""Keep rates as a tensor: of every class, or of the labels 0 and 1 of every structure.

    Args:
        keep_rates: one rate for all, or all of them, in [0, 1].
        num_classes: classes including background (multi-class), or structures (multi-label).
        multi_label: which of the two.

    Shape:
        result (C,), or (K, 2) for multi-label; float32.

    Raises:
        ValueError: for another number of rates, or one that is not in [0, 1].

    Example:
        >>> as_keep_rates(0.5, 3, multi_label=False).tolist(), as_keep_rates([[1, 0.5]], 1, multi_label=True).tolist()
        ([0.5, 0.5, 0.5], [[1.0, 0.5]])
    """
    rates = torch.as_tensor(keep_rates, dtype=torch.float32)
    form = (num_classes, 2) if multi_label else (num_classes,)
    if rates.ndim and tuple(rates.shape) != form:
        wanted = (
            "a pair for every structure (labels 0 and 1)" if multi_label else "one for every class, background first"
        )
        raise ValueError(f"keep_rates must be one number or {wanted}, form {form}; got form {tuple(rates.shape)}.")
    if not bool(((rates >= 0) & (rates <= 1)).all()):
        raise ValueError(f"keep_rates are shares between 0 and 1, got {rates.tolist()}.")
    return rates.expand(form).clone()


def small_loss_weight(
    loss: Tensor, label: Tensor, forget_rates: Tensor, weight: Tensor | None = None, scope: Scope = "batch"
) -> Tensor:
    r"""Weight map that is 0 for the largest losses of every given class and 1 for the others.

    Of the n_c voxels with label c exactly int(f_c n_c) are left out, those of largest loss; of equal losses the
    first ones, in the order of samples and voxels. Every class is judged by itself, so a rare one is not left out for
    being hard.

    Robust to errors that the network contradicts, as long as it has not memorised them; with rates that are too
    low it leaves out the hard voxels, those at boundaries first. Works for any number of voxels; memory is a few
    arrays of the size of the loss.

    Args:
        loss: loss of every voxel; no gradient is taken through the choice.
        label: the given label: class indices, or for multi-label the labels 0 and 1 (or bool) of every channel.
        forget_rates: f_c in [0, 1] of every class, or of the two labels of every channel.
        weight: voxels of weight 0 are neither counted nor kept. None for ones.
        scope: whether the largest losses are sought among all voxels of the ``"batch"`` or of each ``"image"``.

    Shape:
        loss, label (B, 1, \*S) with forget_rates (C,), or (B, K, \*S) with forget_rates (K, 2); weight broadcasts to
        the loss. Result: the form of the loss, float32.

    Raises:
        ValueError: for another scope, or if the forms do not go together.

    Example:
        >>> loss = torch.tensor([[[0.1, 0.9, 0.5, 0.2, 0.8, 0.3]]])
        >>> label = torch.tensor([[[0, 0, 0, 0, 1, 1]]])
        >>> small_loss_weight(loss, label, torch.tensor([0.5, 0.5])).tolist()
        [[[1.0, 0.0, 0.0, 1.0, 0.0, 1.0]]]

    References:
        B. Han et al., Co-teaching: robust training of deep neural networks with extremely noisy labels, NeurIPS 2018.
        S. Li et al., Superpixel-guided iterative learning from noisy labels for medical image segmentation, MICCAI
        2021, which takes the rates by class.
    """
    if scope not in ("batch", "image"):
        raise ValueError(f"scope must be 'batch' or 'image', got {scope!r}.")
    _check_forms(loss, label, forget_rates)
    rates = forget_rates.reshape(loss.shape[1], -1).tolist()
    losses, labels = loss.flatten(2), label.flatten(2)
    counted = None if weight is None else (weight > 0).expand(loss.shape).flatten(2)
    keep = torch.ones_like(losses, dtype=torch.float32) if counted is None else counted.float()
    samples = [slice(None)] if scope == "batch" else [slice(n, n + 1) for n in range(len(loss))]
    for part in ((sample, channel) for sample in samples for channel in range(loss.shape[1])):
        for value, rate in enumerate(rates[part[1]]):
            if rate > 0:
                of_class = labels[part] == value
                if counted is not None:
                    of_class &= counted[part]
                keep[part].masked_fill_(_largest(losses[part], of_class, rate), 0)
    return keep.view(loss.shape)


def _largest(loss: Tensor, among: Tensor, share: float) -> Tensor:
    """Where the int(share n) largest losses of the n voxels of a mask are, exactly that many."""
    losses = loss[among]
    count = int(share * losses.numel())
    if count == 0:
        return torch.zeros_like(among)
    threshold = losses.topk(count, sorted=False).values.min()
    found = among & (loss > threshold)
    equal = (among & (loss == threshold)).flatten().nonzero()[:, 0]
    found.view(-1)[equal[: count - int(found.sum())]] = True
    return found


def class_balanced_mean(value: Tensor, label: Tensor, num_classes: int, weight: Tensor) -> Tensor:
    r"""Mean over the classes of the weighted mean over each class, whatever their sizes.

    .. math:: L = \frac{1}{|P|} \sum_{c \in P} \frac{\sum_{u: y_u = c} w_u l_u}{\sum_{u: y_u = c} w_u},
              \qquad P = \{c : \sum_{u: y_u = c} w_u > 0\}

    Classes that are absent, or of which nothing is kept, do not count. In a multi-label problem the two labels of
    every channel are the classes. 0, with gradient 0, when all weights are 0.

    Args:
        value: losses l.
        label: class indices, or the labels 0 and 1 (or bool) of every channel.
        num_classes: classes including background; 2 for multi-label.
        weight: weights w, which broadcast to the values.

    Shape:
        value, label (B, 1, \*S), or (B, K, \*S) for multi-label; result a scalar.

    Example:
        >>> value, label = torch.tensor([[[1.0, 3.0, 8.0]]]), torch.tensor([[[0, 0, 2]]])
        >>> class_balanced_mean(value, label, 3, torch.ones(1, 1, 3)).item()  # (2 + 8) / 2
        5.0
    """
    weight = weight.detach().to(value.dtype)
    others = [axis for axis in range(value.ndim) if axis != 1]
    totals = torch.stack([((label == number) * weight).sum(others) for number in range(num_classes)])
    inverse = torch.where(totals > 0, 1 / totals, 0)
    channel = torch.arange(value.shape[1], device=value.device).view(-1, *[1] * (value.ndim - 2))
    return (inverse[label.long(), channel] * weight * value).sum() / (totals > 0).sum().clamp(min=1)


def _check_forms(loss: Tensor, label: Tensor, forget_rates: Tensor) -> None:
    channels = loss.shape[1] if loss.ndim > 2 else 0
    right = forget_rates.shape == (channels, 2) if forget_rates.ndim == 2 else forget_rates.ndim == 1 == channels
    if label.shape != loss.shape or not right:
        raise ValueError(
            "loss and label must be (B, 1, *S) with forget_rates (C,), or (B, K, *S) with forget_rates (K, 2); got "
            f"{tuple(loss.shape)}, {tuple(label.shape)} and {tuple(forget_rates.shape)}."
        )
