"""Draw docs/images/loss_curves.png: value and gradient of every loss against the probability of the given label.

Run it from the repository: ``python tests/benchmarks/loss_curves.py [FILE]``. Two classes, no weights. Losses of
regions are drawn for an image all of whose voxels have the same probability, T-Loss divided by the number of voxels.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from monai_noisylabel import losses

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "loss_curves.png"
SIDE = 32
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e6a400", "#000000")
REFERENCE = "#9a9a9a"
STYLES = ("-", "-", "-", "-", "--", "--")

Curve = tuple[Tensor, Tensor]


def t_loss(nu: float) -> nn.Module:
    return losses.TLoss(math.log(nu), per_voxel=True, include_background=False)


GROUPS: dict[str, dict[str, Callable[[], nn.Module]]] = {
    "Generalized cross entropy": {
        "CE": losses.CrossEntropyLoss,
        "GCE, q = 0.3": lambda: losses.GeneralizedCrossEntropyLoss(q=0.3),
        "GCE, q = 0.7": losses.GeneralizedCrossEntropyLoss,
        "GCE, q = 1 (MAE / 2)": lambda: losses.GeneralizedCrossEntropyLoss(q=1),
        "GCE, truncated at 0.5": lambda: losses.GeneralizedCrossEntropyLoss(truncation=0.5),
    },
    "Symmetric": {
        "CE": losses.CrossEntropyLoss,
        "MAE": losses.MeanAbsoluteErrorLoss,
        "RCE": losses.ReverseCrossEntropyLoss,
        "SCE (0.1 CE + RCE)": losses.SymmetricCrossEntropyLoss,
    },
    "Normalised, active-passive": {
        "NCE": losses.NormalizedCrossEntropyLoss,
        "NGCE": losses.NormalizedGeneralizedCrossEntropyLoss,
        "NCE + MAE": losses.NCEandMAELoss,
        "NGCE + MAE": losses.NGCEandMAELoss,
        "NCE + RCE": losses.NCEandRCELoss,
        "NGCE + RCE": losses.NGCEandRCELoss,
    },
    "Regions": {
        "Dice, noise-robust": lambda: losses.NoiseRobustDiceLoss(include_background=False),
        r"T-Loss, $\nu = 10^4$": lambda: t_loss(1e4),
        r"T-Loss, $\nu = 30$": lambda: t_loss(30),
        r"T-Loss, $\nu = e$ (start)": lambda: t_loss(math.e),
        r"T-Loss, $\nu = 0.3$": lambda: t_loss(0.3),
    },
}


def curve(loss: nn.Module, p: Tensor) -> Curve:
    """Loss and size of its gradient by the label's logit (summed over the voxels) for images of probability p."""
    logit = p.logit().requires_grad_()
    foreground = logit[:, None, None, None].expand(-1, 1, SIDE, SIDE)
    logits = torch.cat([torch.zeros_like(foreground), foreground], 1)
    target = torch.ones(len(p), 1, SIDE, SIDE)
    values = torch.stack([loss(logits[n : n + 1], target[n : n + 1]) for n in range(len(p))])
    (slopes,) = torch.autograd.grad(values.sum(), logit)
    return values.detach(), slopes.abs()


def draw_group(title: str, members: dict[str, Callable[[], nn.Module]], above: Axes, below: Axes) -> None:
    """One column: losses above, gradients below."""
    p = torch.linspace(0.002, 0.998, 250, dtype=torch.float64)
    colors = (REFERENCE, *COLORS) if "CE" in members else COLORS
    for (name, build), color, style in zip(members.items(), colors, STYLES, strict=False):
        loss = build().double()
        values, slopes = curve(loss, p)
        settings: dict[str, Any] = {"color": color, "linestyle": style, "linewidth": 1.8}
        above.plot(p, values, label=name, **settings)
        below.plot(p, slopes, **settings)
    above.set_title(title, fontsize=11, loc="left")
    above.legend(fontsize=8, frameon=False)
    below.set_xlabel("probability of the given label")


def draw(path: Path) -> None:
    """Write the picture."""
    figure = Figure(figsize=(14, 6.2), layout="constrained")
    axes = figure.subplots(2, len(GROUPS), sharex=True)
    for column, (title, members) in enumerate(GROUPS.items()):
        draw_group(title, members, axes[0, column], axes[1, column])
    axes[0, 0].set_ylabel("loss")
    axes[1, 0].set_ylabel("size of the gradient by the label's logit")
    axes[0, 0].set_ylim(0, 5)
    axes[0, 1].set_ylim(0, 10)
    axes[0, 2].set_ylim(bottom=0)
    for panel in axes.flat:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color="#e5e5e5", linewidth=0.6)
        panel.set_xlim(0, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE)
