"""A network whose features tell which voxels belong together, and predictions refined by them in linear time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.networks.layers import Conv
from torch import Tensor, nn
from torch.nn import functional as F

from .features import feature_width, logits_and_features, require_layers

__all__ = ["AffinityNetwork", "affinity_reasoning", "unit_features"]

_POOL: dict[int, Callable[..., Tensor]] = {
    1: F.adaptive_avg_pool1d,
    2: F.adaptive_avg_pool2d,
    3: F.adaptive_avg_pool3d,
}
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
_PROBE_SIZE = 32
_LEAST = 1e-6
"""Mean affinities, and mean differences, below it count as it: rows of nothing stay nothing."""


def unit_features(features: Tensor, grid: Sequence[int], groups: int = 1) -> Tensor:
    r"""Non-negative unit vectors on a coarse grid, whose inner products are the affinities.

    .. math:: a_{ij} = \frac{f_i \cdot f_j}{|f_i| |f_j|} \in [0, 1], \qquad f = \mathrm{mean}_{cell} \mathrm{ReLU}

    A cell without a positive feature has the vector 0, and affinity 0 to every cell.

    Args:
        features: of any layer.
        grid: cells per axis.
        groups: how many affinities to make of the channels, which are dealt out in turn; one per structure where
            structures overlap.

    Shape:
        features (B, d, \*S); result (B, G, d / G rounded up, \*grid), in float32.

    Raises:
        ValueError: for fewer channels than groups.

    Example:
        >>> features = torch.tensor([[[3.0, 3.0, -1.0], [4.0, 4.0, 2.0]]])
        >>> unit_features(features, grid=[3])[0, 0]
        tensor([[0.6000, 0.6000, 0.0000],
                [0.8000, 0.8000, 1.0000]])
    """
    if features.shape[1] < groups:
        raise ValueError(
            f"The layer's {features.shape[1]} channels are too few for {groups} structures, which need one at least: "
            "name a wider layer."
        )
    pooled = _POOL[features.ndim - 2](features.float().relu(), list(grid))
    missing = -pooled.shape[1] % groups
    if missing:
        pooled = torch.cat([pooled, pooled.new_zeros(len(pooled), missing, *pooled.shape[2:])], 1)
    return F.normalize(pooled.unflatten(1, (-1, groups)).transpose(1, 2), dim=2)


def affinity_reasoning(values: Tensor, features: Tensor) -> Tensor:
    r"""Predictions, drawn to those of similar voxels and away from those of different ones (DAR).

    .. math::
        P' = \tfrac12 (P_{intra} + P_{inter}), \qquad P_{intra} = P + A_1 P, \quad P_{inter} = P - A_0 P

    with the rows of A_1 those of the affinities a, and of A_0 those of 1 - a, divided by their sums. No N x N matrix is
    made. With unit rows X, and Y those less their mean,

    .. math::
        a P = X (X^\top P), \qquad (1 - a) P = h (1^\top P) + 1 (h^\top P) - Y (Y^\top P), \quad h_i = |y_i|^2 / 2,

    exactly, in O(N d C) time and O(N (d + C)) memory; the second form, of :math:`1 - a_{ij} = |x_i - x_j|^2 / 2`, does
    not lose its digits where all voxels are alike. It sharpens regions of one appearance and helps little where a
    structure's features are not set apart.

    Args:
        values: P, probabilities or logits.
        features: X^T of :func:`unit_features`, vectors of length 1 or 0.

    Shape:
        values (n, C, N); features (n, d, N); result (n, C, N).

    Example:
        >>> features = torch.tensor([[[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])  # the first two are alike
        >>> affinity_reasoning(torch.tensor([[[0.8, 0.6, 0.1]]]), features)  # 0.8 + (0.7 - 0.1) / 2, ...
        tensor([[[ 1.1000,  0.9000, -0.2000]]])

    References:
        X. Guo and Y. Yuan, Joint class-affinity loss correction for robust medical image segmentation with noisy
        labels, MICCAI 2022.

    Deviation:
        A row whose mean is below 1e-6 is not scaled up to sum 1; the paper does not say what becomes of it.
    """
    rows, voxels = features.mT, features.shape[2]
    given = torch.cat([values.mT, values.new_ones(len(values), voxels, 1)], 2)
    alike = rows @ (features @ given)
    centred = rows - rows.mean(1, keepdim=True)
    half = (centred.square().sum(2, keepdim=True) + (features.square().sum(1) < 0.5)[..., None]) / 2
    unlike = half * given.sum(1, keepdim=True) + half.mT @ given - centred @ (centred.mT @ given)
    within, between = (part[..., :-1] / part[..., -1:].clamp(min=_LEAST * voxels) for part in (alike, unlike))
    return values + (within - between).mT / 2


class AffinityNetwork(nn.Module):
    r"""A network that, while training, also gives affinity features and predictions refined by them.

    For :class:`~monai_noisylabel.losses.JCASLoss`. In training mode the output is a dictionary; in evaluation mode it
    is the network's own logits: nothing of this is needed for inference, and the network itself, which is shared and
    not copied, is what is validated and saved.

    Affinities come from a layer, averaged over cells; a second, shallower layer gets a classifier of its own (a 1x1
    convolution, :attr:`shallow_head`) and the same treatment. Needs a layer that sets structures apart: the last ones
    before the logits.

    Args:
        network: any network that maps images to logits, or to a list that begins with them.
        layer: name of the submodule with the features, as in ``network.named_modules()``; for ``SelfCleansingNet``
            its ``feature_layer``.
        shallow_layer: the same, less deep, or None for no second depth.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: channels of the logits, C.
        multi_label: whether they are structures that may overlap. Each then has an affinity of its own, from its share
            of the layer's channels.
        cell: voxels of a cell of the coarse grid per axis. The paper's grid is 64x64 for 320x256.

    Shape:
        image (B, Cin, \*S). In training mode, with N cells \*(S / cell), rounded up, and G = C with ``multi_label``,
        else 1: ``logits`` (B, C, \*S), ``refined`` (B, C, \*S) and ``features`` (B, G, d, \*(S / cell)), the last two
        in float32; with a shallow layer also ``shallow_logits``, ``shallow_refined`` and ``shallow_features``. In
        evaluation mode (B, C, \*S).

    Raises:
        ValueError: if the network has no such layer, with the names that would do; if a layer has too few channels.

    Example:
        >>> from monai_noisylabel.networks import SelfCleansingNet
        >>> net = SelfCleansingNet(2, 1, 3, channels=(4, 8, 8, 8))
        >>> affinity = AffinityNetwork(
        ...     net, net.feature_layer, net.shallow_feature_layer, spatial_dims=2, in_channels=1, out_channels=3
        ... )
        >>> for name, value in affinity(torch.zeros(2, 1, 32, 30)).items():
        ...     print(name, tuple(value.shape))
        logits (2, 3, 32, 30)
        refined (2, 3, 32, 30)
        features (2, 1, 8, 8, 8)
        shallow_logits (2, 3, 32, 30)
        shallow_refined (2, 3, 32, 30)
        shallow_features (2, 1, 16, 8, 8)

    References:
        X. Guo and Y. Yuan, Joint class-affinity loss correction for robust medical image segmentation with noisy
        labels, MICCAI 2022.

    Deviation:
        Logits are refined, as in the authors' public code, not probabilities: those would leave [0, 1]. Structures
        that may overlap are not in the paper.
    """

    def __init__(
        self,
        network: nn.Module,
        layer: str,
        shallow_layer: str | None = None,
        *,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        multi_label: bool = False,
        cell: int = 4,
    ) -> None:
        super().__init__()
        if cell < 1:
            raise ValueError(f"cell must be at least 1 voxel, got {cell}.")
        self.layers = [layer] if shallow_layer is None else [layer, shallow_layer]
        require_layers(network, self.layers)
        self.network = network
        self.groups = out_channels if multi_label else 1
        self.cell = cell
        self.shallow_head: nn.Module | None = None
        if shallow_layer is not None:
            image = next(network.parameters()).new_zeros(1, in_channels, *spatial_dims * (_PROBE_SIZE,))
            width = feature_width(network, shallow_layer, image)
            self.shallow_head = Conv[Conv.CONV, spatial_dims](width, out_channels, kernel_size=1)

    def forward(self, image: Tensor) -> dict[str, Tensor] | Tensor:
        """All of the class's shapes in training mode, logits otherwise."""
        if not self.training:
            output = self.network(image)
            plain: Tensor = output[0] if isinstance(output, (list, tuple)) else output
            return plain
        logits, features = logits_and_features(self.network, image, self.layers)
        found = self._depth("", logits, features[0])
        if self.shallow_head is not None:
            shallow = _resized(self.shallow_head(features[1]), logits.shape[2:])
            found |= self._depth("shallow_", shallow, features[1])
        return found

    def _depth(self, name: str, logits: Tensor, features: Tensor) -> dict[str, Tensor]:
        grid = [-(-size // self.cell) for size in logits.shape[2:]]
        with torch.autocast(logits.device.type, enabled=False):
            vectors = unit_features(features, grid, self.groups)
            coarse = _POOL[len(grid)](logits.float(), grid).flatten(2).unflatten(1, (self.groups, -1))
            refined = affinity_reasoning(coarse.flatten(0, 1), vectors.flatten(3).flatten(0, 1))
            refined = _resized(refined.view(*logits.shape[:2], *grid), logits.shape[2:])
        return {f"{name}logits": logits, f"{name}refined": refined, f"{name}features": vectors}


def _resized(values: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(values, size=list(size), mode=_LINEAR[len(size)], align_corners=False)
