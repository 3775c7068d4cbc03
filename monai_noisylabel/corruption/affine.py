"""Affine noise: the annotation has the right shape, turned and shifted away from the object."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np
from skimage import transform

from .model import Draw, present_structures, require_flag, require_number
from .painting import keep_present
from .record import Parameters
from .rigid_motion import RigidMotion, met, shifted_until
from .window import voxel_steps

__all__ = ["AffineNoise", "Move", "move", "move_as_released"]


Drawn = dict[str, int | float | str | list[int] | list[float]]
RELEASED_DIRECTIONS = ((1, 0), (1, 1), (0, 1), (1, 1), (1, 0), (1, 1), (0, 1), (1, 1))
"""Where the public code can shift to: of its eight directions only the absolute values have an effect."""


class Move(NamedTuple):
    """Masks that :func:`move` has moved, and by how much.

    Attributes:
        masks: the masks.
        angle: rotation in degrees that was left of the one asked for.
        length: length of the shift in mm, or in voxels without a spacing.
        achieved: voxels whose label changed / foreground voxels.
    """

    masks: np.ndarray
    angle: float
    length: float
    achieved: float


@dataclasses.dataclass(frozen=True)
class AffineNoise:
    r"""The annotation is turned by a random angle, then shifted in a random direction until enough of it is wrong.

    Stands for labels that are out of place: drawn on another frame or slice, or after a mistaken registration.
    All structures of a multi-class label move together, those of a multi-label one each by its own draw. See
    :func:`move`.

    Attributes:
        beta: voxels whose label changes / foreground voxels, above 0 and at most 2 (nothing left in place). The
            papers use 0.5 and 0.7.
        max_angle: the angle is drawn from U(-max_angle, max_angle), in degrees, 0 to 180; the papers use 30. In
            3D the axis is drawn too, uniform on the sphere.
        released: move as the public code of Li et al. does, see :func:`move_as_released`; 2D only.

    Raises:
        ValueError: for any other value; the message names the field.

    Example:
        >>> from functools import partial
        >>> import numpy as np
        >>> from monai_noisylabel.corruption import case_generator
        >>> masks = np.zeros((1, 32, 32), bool)
        >>> masks[0, 8:24, 8:24] = True
        >>> draw = partial(case_generator, 0, "a")
        >>> noisy, drawn = AffineNoise(beta=0.5).apply(masks, draw, spacing=None, overlap=False)
        >>> drawn["1"]["achieved"], int((noisy ^ masks).sum()) / 256
        (0.5, 0.5)

    References:
        S. Li et al., Superpixel-Guided Iterative Learning from Noisy Labels for Medical Image Segmentation,
        section 3.1.
    """

    may_add: ClassVar[bool] = False
    may_empty: ClassVar[bool] = False

    beta: float = 0.7
    max_angle: float = 30.0
    released: bool = False

    def __post_init__(self) -> None:
        require_number("affine", "beta", self.beta, 0, 2, above=True)
        require_number("affine", "max_angle", self.max_angle, 0, 180)
        require_flag("affine", "released", self.released)

    def apply(
        self, masks: np.ndarray, draw: Draw, *, spacing: Sequence[float] | None, overlap: bool
    ) -> tuple[np.ndarray, Parameters]:
        """See :meth:`~monai_noisylabel.corruption.model.NoiseModel.apply`.

        One stream per structure for a multi-label label, one stream ``"move"`` for the case otherwise.

        Raises:
            ValueError: if ``released`` is set and the label is not 2D.
        """
        noisy = np.array(masks, dtype=bool)
        drawn: dict[str, Drawn] = {}
        present = present_structures(masks)
        groups: dict[int | str, list[int]] = {number: [number] for number in present} if overlap else {"move": present}
        for stream, numbers in groups.items():
            indices = [number - 1 for number in numbers]
            noisy[indices], parameters = self._move(noisy[indices], draw(stream), spacing)
            drawn.update({str(number): parameters for number in numbers})
        return noisy, drawn

    def _move(
        self, masks: np.ndarray, generator: np.random.Generator, spacing: Sequence[float] | None
    ) -> tuple[np.ndarray, Drawn]:
        angle = float(generator.uniform(-self.max_angle, self.max_angle))
        if self.released:
            moved, steps = move_as_released(masks, angle, RELEASED_DIRECTIONS[generator.integers(8)], self.beta)
            return moved, {"angle": angle, "shift": list(steps)}
        direction = _unit_vector(masks.ndim - 1, generator)
        axis = _unit_vector(3, generator) if masks.ndim == 4 else None
        result = move(masks, angle, direction, self.beta, spacing, axis=axis)
        drawn: Drawn = {
            "angle": result.angle,
            "direction": direction.tolist(),
            "length": result.length,
            "unit": "voxel" if spacing is None else "mm",
            "achieved": round(result.achieved, 4),
        }
        return result.masks, drawn if axis is None else {**drawn, "axis": axis.tolist()}


def move(
    masks: np.ndarray,
    angle: float,
    direction: Sequence[float] | np.ndarray,
    ratio: float,
    spacing: Sequence[float] | None = None,
    *,
    axis: Sequence[float] | np.ndarray | None = None,
) -> Move:
    r"""Turn structures about their common centre, then shift them until a share of the label is wrong.

    With c the mean position of the foreground, R the rotation and u the direction, the voxel at x gets the
    label that was at R^T (x - c - t u) + c, of the nearest voxel. The length t is found by bisection so that

    .. math:: \frac{\#\{x : y'(x) \ne y(x)\}}{\#\{x : y(x) \ne 0\}} = \beta, \qquad
        \text{for one structure}\ \frac{|M' \oplus M|}{|M|} = \beta,

    with int(beta \|M\|) voxels changed exactly: where the label changes by many voxels at one length, as for a
    straight edge, single voxels of it are taken in raster order. If the rotation alone changes more, its angle
    is reduced, likewise by bisection, and there is no shift. What leaves the image is lost, and where that keeps
    the ratio out of reach, the shift that changes most is taken.

    Args:
        masks: binary masks of structures that do not overlap; they move together. They are not changed.
        angle: rotation in degrees; in 2D from the first axis to the second.
        direction: of the shift, one number per axis, of any length but 0; in mm if there is a spacing.
        ratio: beta, above 0 and at most 2.
        spacing: voxel size in mm along each axis: the rotation is one in mm. None stands for ones.
        axis: of the rotation in 3D, three numbers; not used in 2D.

    Shape:
        masks (K, \*S), S of 2 or 3 axes; result the same, of bool.

    Returns:
        The masks, and the angle, length and ratio that came out.

    Raises:
        ValueError: if the masks overlap or have another number of axes, for a ratio out of range, for a direction
            or axis that is none, and if the spacing is not one positive number per axis.

    Example:
        >>> import numpy as np
        >>> masks = np.zeros((1, 12, 12), bool)
        >>> masks[0, 4:8, 2:6] = True
        >>> moved = move(masks, 0.0, (0.0, 1.0), 0.5)
        >>> np.argwhere(moved.masks[0]).min(0).tolist(), np.argwhere(moved.masks[0]).max(0).tolist()
        ([4, 3], [7, 6])
        >>> round(moved.length, 2), moved.achieved
        (1.0, 0.5)

    References:
        S. Li et al., Superpixel-Guided Iterative Learning from Noisy Labels for Medical Image Segmentation,
        section 3.1.

    Deviation:
        The public code turns about the centre of the image, loses every voxel that it would have to interpolate,
        shifts towards larger indices only and does not always meet the ratio: see :func:`move_as_released`. It
        knows neither 3D nor several structures.
    """
    masks = np.asarray(masks, dtype=bool)
    foreground = _foreground(masks, ratio)
    heading = _normalised("direction", direction, masks.ndim - 1)
    turn = _normalised("axis", (0, 0, 1) if masks.ndim == 3 else () if axis is None else axis, 3)
    steps = voxel_steps(spacing, masks.ndim - 1)
    if not foreground:
        return Move(masks.copy(), 0.0, 0.0, 0.0)
    motion = RigidMotion(masks, steps, turn)
    target = int(ratio * foreground)
    length = 0.0
    if motion.changed(motion.at(angle)) > target:
        share, label = met(motion, lambda share: motion.at(share * angle), 0.0, 1.0, target)
        angle = share * angle
    else:
        length, label = shifted_until(motion, lambda length: motion.at(angle, length * heading), target)
    moved = keep_present(np.stack([label == number for number in range(1, len(masks) + 1)]), masks, overlap=False)
    return Move(moved, angle, length, float(np.count_nonzero((moved != masks).any(0)) / foreground))


def move_as_released(
    masks: np.ndarray, angle: float, direction: tuple[int, int], ratio: float
) -> tuple[np.ndarray, tuple[int, int]]:
    r"""Turn and shift structures of a 2D label as the public code of Li et al. does, with its bias.

    The rotation is about the centre of the image, and a pixel stays only where bilinear interpolation gives it
    the full weight of the structure, so the boundary loses up to a pixel. The shift is a whole number of pixels
    from 0 to 100, found by a bisection that ends where it stops and not where it is nearest, and goes towards
    larger indices only. Use it to reproduce published numbers, else :func:`move`.

    Args:
        masks: binary masks of structures that do not overlap; they move together. They are not changed.
        angle: rotation in degrees, counter-clockwise in the picture.
        direction: pixels per step along both axes, 0 or 1.
        ratio: beta, see :func:`move`.

    Shape:
        masks (K, H, W); result the same, of bool.

    Returns:
        The masks and the shift in pixels.

    Raises:
        ValueError: if the masks overlap or are not 2D, and for a ratio out of range.

    Example:
        >>> import numpy as np
        >>> masks = np.zeros((1, 32, 32), bool)
        >>> masks[0, 8:24, 8:24] = True
        >>> moved, shift = move_as_released(masks, 20.0, (1, 0), 0.5)
        >>> shift, int(moved.sum()), round(float((moved ^ masks).sum() / 256), 2)
        ((3, 0), 228, 0.45)

    References:
        S. Li et al., Superpixel-Guided Iterative Learning from Noisy Labels for Medical Image Segmentation.

    Deviation:
        A structure that leaves the image keeps its deepest pixel.
    """
    masks = np.asarray(masks, dtype=bool)
    if masks.ndim != 3:
        raise ValueError(f"the public code moves 2D masks (K, H, W) only, got {masks.shape}; leave 'released' out.")
    foreground = _foreground(masks, ratio)
    if not foreground:
        return masks.copy(), (0, 0)
    turned = np.stack([transform.rotate(mask.astype(float), angle) >= 1 for mask in masks])
    low, high = 0, 100
    while low < high:
        step = (low + high) // 2
        shift = (step * direction[0], step * direction[1])
        moved = _shifted_down_right(turned, shift)
        achieved = np.count_nonzero((moved != masks).any(0)) / foreground
        if achieved == ratio:
            break
        low, high = (low, step - 1) if achieved > ratio else (step + 1, high)
    return keep_present(moved, masks, overlap=False), shift


def _shifted_down_right(masks: np.ndarray, shift: tuple[int, int]) -> np.ndarray:
    shifted = np.zeros_like(masks)
    height, width = (max(0, size - step) for size, step in zip(masks.shape[1:], shift, strict=True))
    shifted[:, shift[0] :, shift[1] :] = masks[:, :height, :width]
    return shifted


def _foreground(masks: np.ndarray, ratio: float) -> int:
    """Number of foreground voxels of masks that can be moved."""
    if masks.ndim not in (3, 4):
        raise ValueError(f"masks must be (K, H, W) or (K, H, W, D), got shape {masks.shape}.")
    if not 0 < ratio <= 2:
        raise ValueError(f"ratio must be above 0 and at most 2, got {ratio}.")
    foreground = np.count_nonzero(masks.any(0))
    if foreground < np.count_nonzero(masks):
        raise ValueError("masks that move together must not overlap; move overlapping structures one by one.")
    return int(foreground)


def _normalised(name: str, vector: Sequence[float] | np.ndarray, size: int) -> np.ndarray:
    numbers = np.asarray(vector, dtype=float)
    if numbers.shape != (size,) or not np.isfinite(numbers).all() or not numbers.any():
        raise ValueError(f"{name} must be {size} numbers that are not all 0, got {vector}.")
    return numbers / np.linalg.norm(numbers)


def _unit_vector(size: int, generator: np.random.Generator) -> np.ndarray:
    vector = generator.standard_normal(size)
    return vector / np.linalg.norm(vector)
