"""Outlines of structures on an image."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

__all__ = ["draw_outlines"]

_COLOURS = ("tab:red", "tab:cyan", "tab:orange", "tab:green", "tab:pink", "tab:olive")


def draw_outlines(axes: Axes, image: np.ndarray, masks: np.ndarray, width: float) -> None:
    r"""Draw an image in grey, or in colours if it has three channels, with a coloured outline per structure.

    Args:
        axes: where to draw.
        image: intensities; what lies beyond its percentiles 1 and 99 is black and white.
        masks: of the structures.
        width: of the lines.

    Shape:
        image (C, H, W); masks (K, H, W); the first axis of the plane becomes the horizontal one.
    """
    picture = np.moveaxis(image[:3], 0, -1) if image.shape[0] == 3 else image[0]
    low, high = np.percentile(picture, (1, 99))
    axes.imshow(np.swapaxes((picture - low) / max(high - low, 1e-6), 0, 1).clip(0, 1), cmap="gray")
    for mask, colour in zip(masks, _COLOURS * (1 + len(masks) // len(_COLOURS)), strict=False):
        if mask.any() and not mask.all():
            axes.contour(mask.T.astype(float), levels=[0.5], colors=colour, linewidths=width)
    axes.set_axis_off()
