"""Small pictures of findings: a slice of the image, what is labelled, what seems right, and where they differ."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from monai_noisylabel.corruption.window import square_window
from monai_noisylabel.handlers.atomic import write_bytes_atomically

__all__ = ["GIVEN", "PROPOSED", "draw_overlay"]

GIVEN, PROPOSED, WRONG = (255, 149, 0), (0, 229, 255), (255, 64, 160)
SIDE = 320  # pixels of the longer side
CONTEXT = 2.0  # side of the picture over that of the region
QUALITY = 72


def draw_overlay(
    image: np.ndarray,
    given: np.ndarray,
    proposed: np.ndarray,
    wrong: np.ndarray,
    spacing: Sequence[float],
    limits: tuple[float, float],
    path: Path,
) -> None:
    r"""Save a slice as WebP: the given outline in orange, the proposed one in cyan, the region in pink.

    Args:
        image: intensities of the slice.
        given: mask of the structure in the label.
        proposed: the same in the proposal.
        wrong: the region.
        spacing: of the two axes; the picture has square pixels.
        limits: intensities that become black and white.
        path: the file.

    Shape:
        image (C, H, W), the masks (H, W); the first axis becomes the horizontal one.
    """
    window = square_window(wrong if wrong.any() else given | proposed, spacing, CONTEXT)
    extent = [(part.stop or n) - (part.start or 0) for part, n in zip(window, wrong.shape, strict=True)]
    longest = max(n * step for n, step in zip(extent, spacing, strict=True))
    size = tuple(max(1, round(SIDE * n * step / longest)) for n, step in zip(extent, spacing, strict=True))
    low, high = limits
    grey = (np.clip((image[(slice(None), *window)] - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)
    channels = [_resized(channel, size, Image.Resampling.BICUBIC) for channel in (grey if len(grey) == 3 else grey[:1])]
    picture = np.stack([channels[n % len(channels)] for n in range(3)], -1).astype(np.float32)
    region = _smooth(wrong[window], size)
    picture[region] = 0.65 * picture[region] + 0.35 * np.array(WRONG)
    for mask, colour, width in ((given, GIVEN, 3), (proposed, PROPOSED, 1)):
        picture[_outline(_smooth(mask[window], size), width)] = colour
    stream = io.BytesIO()
    Image.fromarray(picture.astype(np.uint8)).save(stream, format="WEBP", quality=QUALITY)
    write_bytes_atomically(stream.getvalue(), path)


def _resized(array: np.ndarray, size: Sequence[int], method: Image.Resampling) -> np.ndarray:
    """An array (horizontal, vertical) as rows of pixels in another size."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(array.T)).resize((size[0], size[1]), method))


def _smooth(mask: np.ndarray, size: Sequence[int]) -> np.ndarray:
    return _resized(mask.astype(np.uint8) * 255, size, Image.Resampling.BILINEAR) > 127


def _outline(mask: np.ndarray, width: int) -> np.ndarray:
    """Pixels on both sides of the border of a mask, in lines of a width."""
    if not mask.any():
        return mask
    inner = ndimage.binary_erosion(mask, iterations=width, border_value=0)
    return np.asarray(mask & ~inner)
