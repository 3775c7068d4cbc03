"""A second network that looks at an image together with its label and says how good the label is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers import Conv
from torch import Tensor, nn

__all__ = ["JudgedOutput", "QualityAwareNetwork", "QualityNetwork"]


class QualityNetwork(nn.Module):
    r"""Quality awareness module: one score per sample from the image and its label together.

    .. math:: q_i = \frac{1}{V} \sum_v (Q_\theta(\mathrm{concat}(x_i, \mathrm{onehot}(y_i))))_v

    with Q a stack of convolutions, the last of which has one channel, and the mean over its V remaining voxels. It
    has no target of its own: it learns by what :class:`~monai_noisylabel.losses.PickAndLearnLoss` makes of its scores.
    No normalisation over the batch by default, so that the score of a sample does not depend on the others.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: C, classes including background, or structures (``multi_label``).
        multi_label: whether the label has one binary channel per structure, which may overlap.
        channels: widths of the convolutions, each of which halves the grid.
        norm: normalisation after each convolution, by MONAI's name and arguments; None: none.

    Shape:
        image (B, Cin, \*S); label (B, 1, \*S) class indices, or with ``multi_label`` (B, C, \*S); result (B,).

    Raises:
        ValueError: if no width is given, or the label does not have the channels that it should have.

    Example:
        >>> quality = QualityNetwork(spatial_dims=2, in_channels=1, num_classes=3, channels=(4, 8))
        >>> quality.features[0].conv.in_channels  # the image and three classes
        4
        >>> quality(torch.zeros(5, 1, 32, 30), torch.zeros(5, 1, 32, 30)).shape
        torch.Size([5])

    References:
        H. Zhu, J. Shi, J. Wu, Pick-and-learn: automatic quality evaluation for noisy-labeled image segmentation, MICCAI
        2019.

    Deviation:
        The paper takes a VGG network; a few convolutions of stride 2 cost a fraction of it, also in 3D. Structures
        that may overlap are not in the paper.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        num_classes: int,
        *,
        multi_label: bool = False,
        channels: Sequence[int] = (16, 32, 64, 64),
        norm: str | tuple[str, dict[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        if not channels:
            raise ValueError("channels must name the width of one convolution at least.")
        self.num_classes, self.multi_label = num_classes, multi_label
        widths = [in_channels + num_classes, *channels]
        self.features = nn.Sequential(
            *(
                Convolution(spatial_dims, before, width, strides=2, act="RELU", norm=norm, adn_ordering="NA")
                for before, width in zip(widths[:-1], channels, strict=True)
            )
        )
        self.score = Conv[Conv.CONV, spatial_dims](widths[-1], 1, kernel_size=1)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        """Scores; see the class."""
        expected = self.num_classes if self.multi_label else 1
        if label.shape != (image.shape[0], expected, *image.shape[2:]):
            raise ValueError(
                f"To an image {tuple(image.shape)} belongs a label of the form "
                f"{(image.shape[0], expected, *image.shape[2:])}, got {tuple(label.shape)}."
            )
        channels = torch.cat([image, self._one_hot(label).to(image.dtype)], 1)
        scores: Tensor = self.score(self.features(channels))
        return scores.flatten(1).mean(1)

    def _one_hot(self, label: Tensor) -> Tensor:
        if self.multi_label:
            return label > 0
        classes = torch.arange(self.num_classes, device=label.device, dtype=label.dtype)
        return label == classes.view(-1, *[1] * (label.ndim - 2))


class JudgedOutput(NamedTuple):
    r"""What is learned from, and how good it looks.

    Attributes:
        logits: logits of the segmentation network, (B, C, \*S).
        quality: scores of the given labels, (B,).
    """

    logits: Tensor
    quality: Tensor


class QualityAwareNetwork(nn.Module):
    r"""A segmentation network with a quality network beside it while it trains.

    In training mode it takes the image and the given label, which MONAI's ``PrepareBatchExtraInput`` hands over, and
    gives logits and scores for :class:`~monai_noisylabel.losses.PickAndLearnLoss`. The logits do not depend on the
    label. In evaluation mode it is the network alone, which is shared and not copied: that one is validated, saved and
    used for inference.

    Args:
        network: any network that maps images to logits.
        quality: scores images with labels, :class:`QualityNetwork`.

    Shape:
        image (B, Cin, \*S), label as the quality network takes it; in training mode :class:`JudgedOutput`, else logits
        (B, C, \*S).

    Raises:
        ValueError: in training mode without a label.

    Example:
        >>> network = QualityAwareNetwork(nn.Conv2d(1, 2, 1), QualityNetwork(2, 1, 2, channels=(4,)))
        >>> image = torch.zeros(3, 1, 8, 8)
        >>> [tuple(part.shape) for part in network(image, label=torch.ones(3, 1, 8, 8))]
        [(3, 2, 8, 8), (3,)]
        >>> network.eval()(image).shape
        torch.Size([3, 2, 8, 8])

    References:
        H. Zhu, J. Shi, J. Wu, Pick-and-learn: automatic quality evaluation for noisy-labeled image segmentation, MICCAI
        2019.
    """

    def __init__(self, network: nn.Module, quality: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.quality = quality

    def forward(self, image: Tensor, label: Tensor | None = None) -> JudgedOutput | Tensor:
        """Logits and scores in training mode, logits otherwise."""
        logits: Tensor = self.network(image)
        if not self.training:
            return logits
        if label is None:
            raise ValueError(
                "While it trains, the quality network needs the given label beside the image: set the trainer's "
                "prepare_batch to monai.engines.PrepareBatchExtraInput({'label': 'label'})."
            )
        return JudgedOutput(logits, self.quality(image.as_subclass(Tensor), label.as_subclass(Tensor)))
