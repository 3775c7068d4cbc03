"""Features of any network beside its logits, in one output tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
_MOST_NAMES = 40
_PROBE_SIZE = 32
_REFUSALS = (RuntimeError, ValueError, IndexError, TypeError, AssertionError)


class FeatureTap(nn.Module):
    """A network whose output is its logits followed by the features of one of its layers.

    Label correction compares the features of voxels. This wrapper takes them from any network, by the name of
    a submodule, without a change to the network: a forward hook lives only as long as one call. Logits and
    features leave as one tensor, so inferers such as ``SlidingWindowInferer`` can pass both through; split
    them with ``output[:, :num_logits]`` and ``output[:, num_logits:]``.

    The tap holds the network itself, not a copy: training the one trains the other. Its state dict is the
    plain state dict of the network, so checkpoints of either load into the other. A layer that runs several
    times in one call gives the output of its last run. Where the network returns a list (deep supervision),
    its first entry counts as the logits. Not for training: the features take memory and the gradient does not
    need them.

    Prefer a late layer with non-negative output at the image's resolution. Features of a coarser layer are
    interpolated linearly to the grid of the logits, which blurs them across boundaries.

    Args:
        network: any network that maps (B, C, *S) to logits (B, K, *S). Wrappers by
            ``DistributedDataParallel``, ``DataParallel`` and ``torch.compile`` are taken off; the network
            below them runs.
        layer: name of the submodule as in ``network.named_modules()``, for ``SelfCleansingNet`` its
            ``feature_layer``.

    Shape:
        - Input: whatever the network takes, usually (B, C, *S).
        - Output: (B, K + d, *S') float32, with S' the grid of the logits and d the channels of the layer.

    Raises:
        ValueError: when the network has no such layer, with the names that would do.
        RuntimeError: when the layer did not run, or its output is not a tensor of the logits' rank.

    Example:
        >>> from monai.networks.nets import BasicUNet
        >>> network = BasicUNet(spatial_dims=2, in_channels=1, out_channels=2, features=(4, 4, 8, 8, 16, 4))
        >>> tap = FeatureTap(network, layer="upcat_1")
        >>> tap(torch.zeros(1, 1, 32, 32)).shape
        torch.Size([1, 6, 32, 32])
    """

    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__()
        self.network = _unwrap(network)
        self.layer = layer
        require_layers(self.network, [layer])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits and features of an image batch.

        Args:
            image: (B, C, *S).

        Returns:
            float32 tensor (B, K + d, *S), the K logits first.
        """
        logits, (features,) = logits_and_features(self.network, image, [self.layer])
        if features.shape[2:] != logits.shape[2:]:
            mode = _LINEAR[features.ndim - 2]
            features = F.interpolate(features, size=logits.shape[2:], mode=mode, align_corners=False)
        return torch.cat([logits, features], dim=1)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The plain state dict of the wrapped network."""
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a plain state dict of the wrapped network."""
        return self.network.load_state_dict(state_dict, strict=strict, assign=assign)


def logits_and_features(
    network: nn.Module, image: torch.Tensor, layers: Sequence[str]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Logits of a network and the outputs of some of its layers, with the gradient, by hooks that last one call.

    Args:
        network: any network that maps (B, C, *S) to logits (B, K, *S), or to a list that begins with them.
        image: (B, C, *S).
        layers: names of submodules.

    Returns:
        Logits, and a float32 copy (B, d, *S') of each layer's last output.

    Raises:
        RuntimeError: when a layer did not run, or its output is not a tensor of the logits' rank.
    """
    captured: dict[str, object] = {}
    handles = [
        network.get_submodule(layer).register_forward_hook(
            lambda _module, _inputs, output, layer=layer: captured.update({layer: _copy(output)})
        )
        for layer in layers
    ]
    try:
        logits = network(image)
    finally:
        for handle in handles:
            handle.remove()
    logits = logits[0] if isinstance(logits, (list, tuple)) else logits
    return logits, [_feature_map(captured, layer, network, logits, image) for layer in layers]


def require_layers(network: nn.Module, layers: Sequence[str]) -> None:
    """Check that a network has the named submodules.

    Raises:
        ValueError: if one is missing, with the names that would do.
    """
    known = dict(network.named_modules())
    for layer in layers:
        if not layer or layer not in known:
            raise ValueError(
                f"{type(network).__name__} has no layer {layer!r}. "
                f"Layers that give features, last first: {_names_for(network)}."
            )


def _feature_map(
    captured: Mapping[str, object], layer: str, network: nn.Module, logits: torch.Tensor, image: torch.Tensor
) -> torch.Tensor:
    name = type(network).__name__
    if layer not in captured:
        raise RuntimeError(
            f"layer {layer!r} of {name} did not run. Name one that does, and wrap the network before it is compiled."
        )
    features = captured[layer]
    if isinstance(features, torch.Tensor) and features.ndim == logits.ndim:
        return features
    found = getattr(features, "shape", type(features).__name__)
    raise RuntimeError(
        f"layer {layer!r} of {name} gives {found}, not a feature map of {logits.ndim - 2} spatial axes. "
        f"Layers that do, last first: {_shorten(candidate_layers(network, image))}."
    )


def candidate_layers(network: nn.Module, image: torch.Tensor) -> list[str]:
    """Names of the submodules whose output is a feature map, found by running the network once.

    Args:
        network: any network; it runs in eval mode without gradient and is left as it was.
        image: one input batch (B, C, *S) that the network accepts.

    Returns:
        Names whose output is a tensor (B, d, *S') with as many spatial axes as the image, the last that ran
        first.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 1))
        >>> candidate_layers(net, torch.zeros(1, 1, 4, 4))
        ['1', '0']
    """
    network = _unwrap(network)
    found: dict[str, None] = {}
    handles = []
    for name, module in network.named_modules():
        if name:
            handles.append(module.register_forward_hook(_recorder(found, name, image.ndim)))
    try:
        with _evaluating(network):
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    return list(reversed(found))


def feature_width(network: nn.Module, layer: str, image: torch.Tensor) -> int:
    """Channels of a layer's output, found by running the network once in eval mode.

    Raises:
        ValueError: if the network does not accept the image.
    """
    with _evaluating(network):
        try:
            return logits_and_features(network, image, [layer])[1][0].shape[1]
        except _REFUSALS as error:
            raise ValueError(
                f"{type(network).__name__} could not be run on an image {tuple(image.shape)} to find out how many "
                f"channels its layer {layer!r} has: {error}"
            ) from error


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Eval mode without gradient; afterwards every module is in the mode it was in."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def _recorder(found: dict[str, None], name: str, rank: int) -> Callable[[nn.Module, object, object], None]:
    def hook(_module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == rank:
            found[name] = None

    return hook


def _unwrap(network: nn.Module) -> nn.Module:
    """The network below ``torch.compile`` and the data-parallel wrappers."""
    data_parallel = isinstance(network, (nn.parallel.DistributedDataParallel, nn.DataParallel))
    inner = network.module if data_parallel else getattr(network, "_orig_mod", None)
    return _unwrap(inner) if isinstance(inner, nn.Module) else network


def _copy(output: object) -> object:
    """A float32 copy, which a later in-place activation of the network cannot change."""
    return output.to(torch.float32, copy=True) if isinstance(output, torch.Tensor) else output


def _names_for(network: nn.Module) -> str:
    """Candidate names from a probe run on zeros; all names where the network does not accept the probe."""
    for module in network.modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, torch.Tensor) and weight.ndim in (4, 5):
            shape = (1, weight.shape[1], *(weight.ndim - 2) * (_PROBE_SIZE,))
            try:
                return _shorten(candidate_layers(network, weight.new_zeros(shape)))
            except _REFUSALS:
                break
    return _shorten([name for name, _ in network.named_modules() if name][::-1])


def _shorten(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
