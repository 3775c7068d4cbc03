"""A network whose weights are the mean of the training's last steps."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

__all__ = ["averaged_network"]

Tensors = tuple[Tensor, ...] | list[Tensor]


def averaged_network(network: nn.Module, steps: int = 50) -> AveragedModel:
    r"""Copy of a network that follows its weights as a moving average over about ``steps`` training steps.

    Under noisy labels the weights of single steps swing with the errors of their batches, and so do predictions that
    are to become labels. Their mean is steadier and nearer to what the labels have in common. After n updates

    .. math:: \bar\theta_n = (1 - w_n) \bar\theta_{n-1} + w_n \theta_n, \qquad w_n = \max(1/n, 1/N):

    the plain mean of the first N steps, an exponential average with momentum 1/N afterwards, so that the random
    weights of the start never count. Running statistics of normalisation layers are averaged alike. Call
    ``update_parameters(network)`` after every step; :class:`~monai_noisylabel.handlers.WeightAverage` does.

    Args:
        network: the trained network; it is copied.
        steps: N, at least 1; 1 is the network itself.

    Returns:
        The average; its attribute ``module`` is the copy, its state dict resumes it.

    Raises:
        ValueError: if ``steps`` is less than 1.

    Example:
        >>> network = nn.Linear(1, 1, bias=False)
        >>> average = averaged_network(network, steps=2)
        >>> for weight in (1.0, 2.0, 5.0):
        ...     _ = network.weight.data.fill_(weight)
        ...     average.update_parameters(network)
        ...     print(average.module.weight.item())
        1.0
        1.5
        3.25

    References:
        A. Tarvainen and H. Valpola, Mean teachers are better role models, NeurIPS 2017, section 3.
    """
    if steps < 1:
        raise ValueError(f"The average runs over at least 1 step, got {steps}.")

    @torch.no_grad()
    def update(averaged: Tensors, current: Tensors, seen: Tensor | int) -> None:
        weight = max(1 / steps, 1 / (int(seen) + 1))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, weight)
        else:
            torch._foreach_copy_(averaged, current)

    return AveragedModel(network, multi_avg_fn=update, use_buffers=True).eval()
