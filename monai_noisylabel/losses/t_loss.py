"""T-Loss: errors follow a Student t distribution whose tolerance is learned."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.loss import _Loss

from .regions import region_sums
from .voxel_target import TargetFlags
from .voxelwise import require_reduction

__all__ = ["TLoss", "student_t_nll"]

STIRLING_COEFFICIENTS = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680)


def student_t_nll(squared_error: Tensor, nu: Tensor, dimensions: Tensor) -> Tensor:
    r"""Negative log-likelihood of a multivariate Student t distribution with identity scale, without cancellation.

    .. math::
        L = -\log\Gamma(\tfrac{\nu + D}{2}) + \log\Gamma(\tfrac{\nu}{2}) + \tfrac{D}{2} \log(\pi \nu)
            + \tfrac{\nu + D}{2} \log(1 + \tfrac{\delta^2}{\nu})

    Its first and last terms grow as D log D and nearly cancel. With Binet's function R, what is left of
    log-gamma after Stirling's formula, the same is

    .. math::
        L = \tfrac{D}{2} \log(2 \pi e) + \tfrac{\nu + D}{2} \log\tfrac{\nu + \delta^2}{\nu + D}
            + \tfrac12 \log(1 + \tfrac{D}{\nu}) + R(\tfrac{\nu}{2}) - R(\tfrac{\nu + D}{2}),

    of which no term is larger than the result needs, in float32 too.

    Args:
        squared_error: sum of squared errors over the dimensions.
        nu: degrees of freedom, positive.
        dimensions: number of dimensions D, or the sum of their weights; 0 gives 0.

    Shape:
        any, broadcast.

    Returns:
        The value in nats, in the tensors' type.

    Example:
        >>> one_dimension = student_t_nll(torch.tensor(4.0), torch.tensor(1.0), torch.tensor(1.0))
        >>> one_dimension.item(), math.log(math.pi * (1 + 2**2))  # nu = 1 is Cauchy
        (2.7541, 2.7541)

    References:
        A. Gonzalez-Jimenez et al., Robust T-Loss for medical image segmentation, MICCAI 2023.
    """
    share = (squared_error - dimensions) / (nu + dimensions)
    log_ratio = torch.where(share.abs() < 0.5, torch.log1p(share), torch.log((nu + squared_error) / (nu + dimensions)))
    return (
        dimensions / 2 * math.log(2 * math.pi * math.e)
        + (nu + dimensions) / 2 * log_ratio
        + torch.log1p(dimensions / nu) / 2
        + _binet(nu / 2)
        - _binet((nu + dimensions) / 2)
    )


def _binet(x: Tensor) -> Tensor:
    """What Stirling's formula lacks of log Gamma(x): the difference itself below 10, its series above."""
    small, inverse = x.clamp(max=10.0), 1 / x.clamp(min=10.0)
    difference = torch.lgamma(small) - (small - 0.5) * torch.log(small) + small - 0.5 * math.log(2 * math.pi)
    series = sum(coefficient * inverse ** (2 * term + 1) for term, coefficient in enumerate(STIRLING_COEFFICIENTS))
    return torch.where(x < 10, difference, series)


class TLoss(_Loss):
    r"""Negative log-likelihood of the error map under a Student t distribution with learned degrees of freedom.

    .. math::
        L = \frac1N \sum_i -\log\Gamma(\tfrac{\nu + D}{2}) + \log\Gamma(\tfrac{\nu}{2}) + \tfrac{D}{2} \log(\pi \nu)
            + \tfrac{\nu + D}{2} \log(1 + \tfrac{\delta_i^2}{\nu})

    with delta_i^2 the sum over the D voxels of sample i of (p - t)^2. A sample with a small error is learned from as
    under mean squared error; the gradient by the error, (nu + D) delta / (nu + delta^2), falls with a large one. So
    whole samples that contradict the network lose their pull. Robust to labels that are wrong as a whole; not to
    errors that all samples share. It goes on to fit wrong labels if trained long with a fast optimiser.

    Exclusive classes (softmax) are one label: its one-hot form is one vector, so that D is the number of voxels times
    that of the classes. Independent structures (sigmoid) are labels of their own, each with a term.

    nu is a parameter of the loss, :attr:`log_nu`, and needs an optimizer: give it :meth:`parameter_group`. Under
    DistributedDataParallel wrap the loss too, or every process learns a nu of its own.

    The weight enters every sum (D is the sum of the weights), and the sum over samples is divided by their number,
    each counted by its mean weight.

    Args:
        init_log_nu: log nu at the start; the released code: 1, so nu = e.
        precision: factor lambda of delta^2 (the inverse of Sigma's diagonal), which also adds -D/2 log lambda.
            1 as printed; ``math.e`` as in the released code.
        per_voxel: whether to divide by the size of the label, D. The printed loss grows with it, so a learning rate
            only holds for one image size; the released code does not divide.
        include_background: whether channel 0 counts. The released binary code uses the foreground only.
        to_onehot_y: the target must hold class indices; never needed, see
            :class:`~monai_noisylabel.losses.voxelwise.VoxelwiseLoss`.
        sigmoid: independent channels, multi-label.
        softmax: exclusive channels, multi-class; the default.
        reduction: ``"mean"``; ``"sum"`` over samples and structures; or ``"none"``.

    Shape:
        input (B, C, \*S) logits; target (B, 1, \*S) class indices or (B, C, \*S); weight (B, 1, \*S) or (B,) in
        [0, 1]. Result: a scalar; for ``"none"`` (B, 1, 1, ..., 1) under softmax and (B, C, 1, ..., 1) under sigmoid,
        with C - 1 without the background.

    Raises:
        ValueError: if the precision is not positive, init_log_nu is not finite, sigmoid and softmax are both set,
            the reduction is unknown, or shapes do not go together.

    Example:
        >>> loss = TLoss(sigmoid=True, per_voxel=True)
        >>> logits = torch.tensor([[[0.5, 0.8]]]).logit()
        >>> loss(logits, torch.tensor([[[1, 1]]])).item()  # D = 2, delta^2 = 0.25 + 0.04, nu = e
        1.0385
        >>> network = nn.Conv2d(1, 1, 3)
        >>> groups = [{"params": network.parameters()}, loss.parameter_group(lr=1e-3)]
        >>> optimizer = torch.optim.SGD(groups, lr=1e-2)
        >>> [group["lr"] for group in optimizer.param_groups]
        [0.01, 0.001]

    References:
        A. Gonzalez-Jimenez et al., Robust T-Loss for medical image segmentation, MICCAI 2023.

    Deviation:
        The paper's problems are binary; what several classes are to it is a design decision. A term per class instead
        of one per image does not learn small classes: a sample's pull is about 1 / (nu + delta^2), so that images
        without the class, whose error goes to zero, outweigh those that show it, and the class is never predicted
        (measured in the docs of the bundle). Large sums are rearranged, see :func:`student_t_nll`, and computed in
        float64 where the device has it.
    """

    def __init__(
        self,
        init_log_nu: float = 1.0,
        precision: float = 1.0,
        per_voxel: bool = False,
        *,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction=require_reduction(reduction))
        self.flags = TargetFlags(include_background, to_onehot_y, sigmoid, softmax)
        if not precision > 0:
            raise ValueError(f"precision must be positive (as printed: 1, released code: e), got {precision}.")
        if not math.isfinite(init_log_nu):
            raise ValueError(f"init_log_nu must be finite (released code: 1), got {init_log_nu}.")
        self.log_nu = nn.Parameter(torch.tensor(float(init_log_nu)))
        self.precision, self.per_voxel = precision, per_voxel

    @property
    def nu(self) -> Tensor:
        """Degrees of freedom: the tolerance to errors, small for much."""
        return self.log_nu.exp()

    def parameter_group(self, lr: float = 1e-3) -> dict[str, Any]:
        """The optimizer's group for nu: its own learning rate (the paper: 1e-3), and no weight decay."""
        return {"params": [self.log_nu], "lr": lr, "weight_decay": 0.0}

    def forward(self, input: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The reduced loss; see the class."""
        logits, label, weight = self.flags.read(input, target, weight)
        exact = torch.float64 if logits.device.type != "mps" else torch.float32
        sums = region_sums(logits, label, weight, gamma=2, sizes=False, sigmoid=self.flags.sigmoid)
        squared_error = sums[:, 0, self.flags.skipped_classes :]
        size = logits.shape[2]
        if not self.flags.sigmoid:
            size, squared_error = size * squared_error.shape[1], squared_error.sum(1, keepdim=True)
        dimensions = squared_error.new_full((len(logits), 1), size, dtype=exact)
        if weight is not None:
            dimensions *= weight.expand(-1, 1, logits.shape[2]).mean(2, dtype=exact)
        value = student_t_nll(self.precision * squared_error.to(exact), self.log_nu.to(exact).exp(), dimensions)
        value = value - dimensions / 2 * math.log(self.precision)
        if self.per_voxel:
            value = value / size
        value = value.to(squared_error.dtype)
        if self.reduction == "none":
            return value[(...,) + (None,) * (input.ndim - 2)]
        if self.reduction == "sum":
            return value.sum()
        samples = (dimensions / size).sum()
        return value.sum() / torch.where(samples > 0, samples * value.shape[1], 1).to(value.dtype)
