"""Two complete networks that look at one image in different ways, behind one module."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from monai.networks.layers import Conv, Dropout
from monai.networks.layers.simplelayers import SkipConnection
from monai.networks.nets import BasicUNet, DynUNet, SegResNet, UNet
from monai.utils import instantiate
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

__all__ = ["BranchOutputs", "CollaborativeNetwork", "bottleneck_layer", "collaborative_network"]

_MOST_NAMES = 40


class BranchOutputs(NamedTuple):
    r"""What both branches give in training.

    Attributes:
        logits: logits of the first branch, then of the second one, (B, 2 C, \*S).
        features: features at both bottlenecks, in the same order, (B, 2 d, \*s).
    """

    logits: Tensor
    features: Tensor


class CollaborativeNetwork(nn.Module):
    r"""Two complete encoder-decoders that share nothing; the second one has one more block at its bottleneck.

    The block (convolution 1x1, normalisation, ReLU, dropout of whole channels) maps the features of the second branch
    to another space of the same width, so that a loss can ask the bottlenecks to differ
    (:class:`~monai_noisylabel.losses.CLCSLoss`). Two branches with different views of an image seldom make the same
    mistake, so their agreement says something about a label. Its normalisation is of the kind that the layer has
    itself, or none.

    In evaluation mode the result is the mean of the logits of both branches, an ordinary network. Time and memory of
    training and of inference are those of two networks: not worth it where one does as well.

    The block and the features hang on the layer by forward hooks, so the state dict consists of the plain ones of the
    branches, with the prefixes ``first.`` and ``second.``, and of the block, ``mapping.``.

    Args:
        first: any network that maps images to logits (B, C, \*S).
        second: another one of the same form, with weights of its own.
        bottleneck: the layer at the bottleneck, named as in ``named_modules()``; None: found by
            :func:`bottleneck_layer`.
        mapping_dropout: probability of a channel's dropout in the block, in [0, 1); the related work of the authors:
            0.5.

    Shape:
        image (B, Cin, \*S), 2D or 3D; in training mode :class:`BranchOutputs`, else logits (B, C, \*S).

    Raises:
        ValueError: if the branches share weights; if there is no such layer, or it has no convolution; for a dropout
            outside [0, 1); in a call, if a network does not give one tensor of logits (deep supervision), or the
            layer's output does not have the width of its last convolution.
        RuntimeError: if the layer did not run.

    Example:
        >>> networks = [BasicUNet(2, 1, 3, features=(4, 4, 8, 8, 16, 4)) for _ in range(2)]
        >>> both = CollaborativeNetwork(*networks)
        >>> [tuple(part.shape) for part in both(torch.zeros(2, 1, 32, 32))]
        [(2, 6, 32, 32), (2, 32, 2, 2)]
        >>> both.eval()(torch.zeros(2, 1, 32, 32)).shape
        torch.Size([2, 3, 32, 32])

    References:
        E. Guo, Z. Wang, Z. Zhao, L. Zhou, Imbalanced medical image segmentation with pixel-dependent noisy labels.
        Z. Wang, Z. Zhao, X. Xing, D. Xu, X. Kong, L. Zhou, Conflict-based cross-view consistency for semi-supervised
        semantic segmentation, CVPR 2023.

    Deviation:
        Two branches, nothing shared, one more block at the second bottleneck: the paper's abstract and figure. What
        the block consists of follows the authors' related work; that the mean of the logits is the prediction is a
        design decision.
    """

    def __init__(
        self, first: nn.Module, second: nn.Module, bottleneck: str | None = None, mapping_dropout: float = 0.5
    ) -> None:
        super().__init__()
        if {*map(id, first.parameters())} & {*map(id, second.parameters())}:
            raise ValueError("The branches must not share weights: build the network twice.")
        if not 0 <= mapping_dropout < 1:
            raise ValueError(f"mapping_dropout must be at least 0 and less than 1, got {mapping_dropout}.")
        self.first, self.second = first, second
        self.bottleneck = bottleneck_layer(first) if bottleneck is None else bottleneck
        layers = [_layer(network, self.bottleneck) for network in (first, second)]
        self.mapping = _mapping_block(layers[1], self.bottleneck, mapping_dropout)
        self._noted: dict[str, Tensor] = {}
        # bound methods, which a deep copy binds to the copy
        layers[0].register_forward_hook(self._note_first)
        layers[1].register_forward_hook(self._map_second)

    def forward(self, image: Tensor) -> BranchOutputs | Tensor:
        """Logits and features of both branches in training mode, the mean of the logits otherwise."""
        logits = [self.first(image), self.second(image)]
        first, second = (self._noted.pop(name, None) for name in ("first", "second"))
        for part in logits:
            if not isinstance(part, Tensor) or part.ndim != image.ndim:
                raise ValueError(
                    f"{type(self.first).__name__} does not give one tensor of logits (B, C, *S). Switch deep "
                    "supervision and further outputs off."
                )
        if first is None or second is None:
            raise RuntimeError(
                f"The layer {self.bottleneck!r} of {type(self.first).__name__} did not run: name another one by "
                "bottleneck."
            )
        if self.training:
            return BranchOutputs(torch.cat(logits, dim=1), torch.cat([first, second], dim=1))
        return (logits[0] + logits[1]) / 2

    def _note_first(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self._noted["first"] = output

    def _map_second(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        width = self.mapping[0].in_channels
        if output.shape[1] != width:
            raise ValueError(
                f"The layer {self.bottleneck!r} of {type(self.second).__name__} gives {output.shape[1]} channels and "
                f"its last convolution {width}: name another one by bottleneck."
            )
        self._noted["second"] = self.mapping(output)
        return self._noted["second"]


def collaborative_network(
    network: str, bottleneck: str | None = None, mapping_dropout: float = 0.5, **settings: Any
) -> CollaborativeNetwork:
    """A collaborative network whose two branches are of one kind, each with its own initialisation.

    Args:
        network: dotted name of the network's class, such as ``monai.networks.nets.UNet``.
        bottleneck: see :class:`CollaborativeNetwork`.
        mapping_dropout: see :class:`CollaborativeNetwork`.
        settings: arguments of the network.

    Raises:
        ModuleNotFoundError: if there is no such class.
        ValueError: as :class:`CollaborativeNetwork`.

    Example:
        >>> settings = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}
        >>> collaborative_network("monai.networks.nets.UNet", **settings).bottleneck
        'model.1.submodule'
    """
    first, second = (instantiate(network, "default", **settings) for _ in range(2))
    return CollaborativeNetwork(first, second, bottleneck, mapping_dropout)


def bottleneck_layer(network: nn.Module) -> str:
    """Name of the layer whose output is what the decoder starts from.

    Known of MONAI's ``UNet``, ``BasicUNet``, ``DynUNet`` and ``SegResNet``, and of every network that names it in an
    attribute ``bottleneck_layer``, as :class:`~monai_noisylabel.networks.SelfCleansingNet` does.

    Args:
        network: the network.

    Raises:
        ValueError: for another network, with the names to choose from.

    Example:
        >>> bottleneck_layer(SegResNet(spatial_dims=2, init_filters=8, blocks_down=(1, 1), blocks_up=(1,)))
        'down_layers.1'
    """
    named = getattr(network, "bottleneck_layer", None)
    if isinstance(named, str):
        return named
    if isinstance(network, UNet):
        skips = [name for name, module in network.named_modules() if isinstance(module, SkipConnection)]
        return f"{skips[-1]}.submodule"
    if isinstance(network, BasicUNet):
        return "down_4"
    if isinstance(network, DynUNet):
        return "bottleneck"
    if isinstance(network, SegResNet):
        return f"down_layers.{len(network.down_layers) - 1}"
    raise ValueError(
        f"The bottleneck of {type(network).__name__} is not known: name by bottleneck the layer whose output the "
        f"decoder starts from, one of {_names_to_choose_from(network)}."
    )


def _layer(network: nn.Module, name: str) -> nn.Module:
    if not name or name not in dict(network.named_modules(remove_duplicate=False)):
        raise ValueError(
            f"{type(network).__name__} has no layer {name!r}. Layers to name by bottleneck: "
            f"{_names_to_choose_from(network)}."
        )
    return network.get_submodule(name)


def _names_to_choose_from(network: nn.Module) -> str:
    """Blocks with a convolution, the outer ones first, in the order in which the network lists them."""
    names = [name for name, module in network.named_modules() if name and _convolutions(module)]
    names = sorted(names, key=lambda name: name.count("."))
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _convolutions(layer: nn.Module) -> list[_ConvNd]:
    return [module for module in layer.modules() if isinstance(module, _ConvNd)]


def _mapping_block(layer: nn.Module, name: str, dropout: float) -> nn.Sequential:
    """Convolution 1x1, normalisation as the layer's last one, ReLU, dropout of channels, all of the layer's width."""
    convolutions = _convolutions(layer)
    if not convolutions:
        raise ValueError(f"The layer {name!r} has no convolution that tells its width: name another one by bottleneck.")
    width, spatial_dims = convolutions[-1].out_channels, convolutions[-1].weight.ndim - 2
    norms = [module for module in layer.modules() if isinstance(module, (_NormBase, nn.GroupNorm))]
    norms = [norm for norm in norms if getattr(norm, "num_features", getattr(norm, "num_channels", None)) == width]
    return nn.Sequential(
        Conv[Conv.CONV, spatial_dims](width, width, kernel_size=1),
        _anew(norms[-1]) if norms else nn.Identity(),
        nn.ReLU(),
        Dropout[Dropout.DROPOUT, spatial_dims](dropout),
    )


def _anew(norm: nn.Module) -> nn.Module:
    """Another normalisation with the same settings."""
    copied: Any = copy.deepcopy(norm)
    copied.reset_parameters()
    return copied
