"""Rigid motion of a label on its grid, and how far to move it until a given number of voxels has changed."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from .window import Window, bounding_window

__all__ = ["RigidMotion", "met", "shifted_until"]

Moved = tuple[Window, np.ndarray]
"""A window and the values of a label in it; outside the label is 0."""

Path = Callable[[float], Moved]
"""The label along a movement, by its length or its share."""


class RigidMotion:
    r"""Rotation of a label about the mean position of its foreground, and shift.

    The voxel at x gets the label that was at R^T (x - c - t) + c, of the nearest voxel, and 0 where that lies
    outside the image. Positions are in units of the voxel steps, so that the rotation is one in space.

    Args:
        masks: binary masks of structures that do not overlap, not all empty.
        steps: length of a voxel step along each axis.
        axis: unit vector of the rotation axis, three numbers; (0, 0, 1) in 2D.

    Shape:
        masks (K, \*S), steps one per axis of S, which are 2 or 3.

    Example:
        >>> import numpy as np
        >>> masks = np.zeros((1, 3, 7), bool)
        >>> masks[0, 1, 1:4] = True
        >>> motion = RigidMotion(masks, np.ones(2), np.array([0.0, 0.0, 1.0]))
        >>> motion.placed(motion.at(90.0, np.array([0.0, 2.0]))).tolist()
        [[0, 0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0, 0]]
    """

    def __init__(self, masks: np.ndarray, steps: np.ndarray, axis: np.ndarray) -> None:
        self.label = np.einsum("k,k...->...", np.arange(1, len(masks) + 1, dtype=np.int16), masks)
        self.foreground = np.count_nonzero(self.label)
        self.steps = steps
        self.axis = axis
        self.centre = np.argwhere(self.label).mean(0)
        window = bounding_window(self.label > 0)
        self.source = np.pad(self.label[window], 1)
        self.origin = np.array([part.start - 1 for part in window])
        self.corners = np.array(list(itertools.product(*[(part.start, part.stop - 1) for part in window])))

    def at(self, angle: float, shift: np.ndarray | float = 0.0) -> Moved:
        """The label turned by an angle in degrees and shifted by lengths along the axes.

        Args:
            angle: in 2D from the first axis to the second.
            shift: in units of the voxel steps.
        """
        axes = len(self.steps)
        rotation = Rotation.from_rotvec(np.radians(angle) * self.axis).as_matrix()[:axes, :axes]
        centre = self.centre + shift / self.steps
        forward = rotation * self.steps / self.steps[:, None]
        arriving = (self.corners - self.centre) @ forward.T + centre
        low = np.clip(np.floor(arriving.min(0)).astype(int), 0, self.label.shape)
        high = np.clip(np.ceil(arriving.max(0)).astype(int) + 1, low, self.label.shape)
        window = tuple(slice(first, last) for first, last in zip(low.tolist(), high.tolist(), strict=True))
        shape = tuple((high - low).tolist())
        if 0 in shape:
            return window, np.zeros(shape, self.label.dtype)
        backward = rotation.T * self.steps / self.steps[:, None]
        offset = backward @ (low - centre) + self.centre - self.origin
        return window, ndimage.affine_transform(self.source, backward, offset, shape, order=0)

    def changed(self, moved: Moved) -> int:
        """Number of voxels whose label differs from the one before."""
        window, values = moved
        before = self.label[window]
        return int(self.foreground - np.count_nonzero(before) + np.count_nonzero(values != before))

    def placed(self, moved: Moved) -> np.ndarray:
        """The whole label."""
        window, values = moved
        label = np.zeros_like(self.label)
        label[window] = values
        return label


def shifted_until(motion: RigidMotion, path: Path, target: int) -> tuple[float, np.ndarray]:
    """Length of a path at which a number of voxels has changed, and the label there.

    Where the structures leave the image before that, the length of those tried that changes most.

    Args:
        motion: of the label.
        path: the label at a length, of which at most the target has changed at length 0.
        target: number of voxels.
    """
    best, most = 0.0, motion.changed(path(0.0))
    low, high = 0.0, float(motion.steps.min())
    while (changed := motion.changed(moved := path(high))) < target:
        if not moved[1].any():
            return best, motion.placed(path(best))
        if changed > most:
            best, most = high, changed
        low, high = high, 1.5 * high
    return met(motion, path, low, high, target)


def met(motion: RigidMotion, path: Path, low: float, high: float, target: int) -> tuple[float, np.ndarray]:
    """Where on a path exactly the target number of voxels has changed, and the label there, by bisection.

    Where many voxels change at one length, as on a straight edge, as many of them as are needed are taken, in
    raster order.

    Args:
        motion: of the label.
        path: the label at a length.
        low: length at which at most the target has changed.
        high: length at which at least the target has changed.
        target: number of voxels.
    """
    tolerance = 1e-5 * high
    while high - low > tolerance:
        middle = (low + high) / 2
        if motion.changed(path(middle)) > target:
            high = middle
        else:
            low = middle
    label, beyond = motion.placed(path(low)), motion.placed(path(high))
    kept = label == motion.label
    late = np.flatnonzero(kept & (beyond != motion.label))[: target - np.count_nonzero(~kept)]
    label.flat[late] = beyond.flat[late]
    return low, label
