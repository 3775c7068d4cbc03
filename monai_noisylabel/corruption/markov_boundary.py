"""Markov boundary noise: the boundary wanders off in many small random steps, as a hand on a contour does."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from scipy import ndimage

from .model import Draw, present_structures, require_number
from .painting import paint
from .record import Parameters
from .window import bounding_window

__all__ = ["MarkovBoundaryNoise", "markov_boundary", "roughen", "wander"]

KERNEL_RADIUS = 2
BLOCK = 20  # steps for which a window is sure to be large enough
OUTSIDE, INSIDE, BEYOND = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class MarkovBoundaryNoise:
    """Boundaries take random steps, more often outwards than inwards; see :func:`markov_boundary`.

    Errors are local, correlated along the boundary and biased one way: large where many steps went the same way.
    Without overlap the structures are painted in their order, the later over the earlier, see
    :func:`~monai_noisylabel.corruption.painting.paint`.

    Set ``steps`` for the size of the structures. With the other settings as they are, the boundary moves outwards by
    about 0.6, 1.5, 2.7, 5 and 10 voxels in 20, 40, 60, 100 and 180 steps in 2D, and by 0.5, 1.7, 3.5, 7 and 15 in 3D,
    whatever the size. So the paper's 180 steps widen a lung of 256 x 256 by a fifth of its radius, but swallow a
    hippocampus (7 voxels in radius, Dice 0.04), which 25 steps leave a Dice of 0.8. Steps are voxels along every axis:
    through thick slices the boundary moves by more mm than within them.

    Attributes:
        steps: length of the chain, at least 0; the paper uses 180 on JSRT (256 x 256). 3 to 4 times the radius of
            the structures, in voxels, does as much to others.
        outward: probability that a step goes outwards, 0 to 1; the paper uses 0.8 there. Below 0.5 structures
            shrink.
        flip: probability that a voxel at the boundary follows a step, 0 to 1; the paper uses 0.05 there.
        final: probability that a voxel is flipped before the final blur, 0 to 0.5; the paper uses 0.2 there.
        sigma: of the final blur, in voxels; the public code uses 2 in 2D and 1 in 3D.

    Raises:
        ValueError: for any other value; the message names the field.

    Example:
        >>> from functools import partial
        >>> import numpy as np
        >>> from monai_noisylabel.corruption import case_generator
        >>> masks = np.zeros((1, 64, 64), bool)
        >>> masks[0, 24:40, 24:40] = True
        >>> draw = partial(case_generator, 0, "a")
        >>> noisy, drawn = MarkovBoundaryNoise().apply(masks, draw, spacing=None, overlap=False)
        >>> drawn, int(noisy.sum()) / 256
        ({'1': {'outward_steps': 139, 'inward_steps': 41}}, 3.65625)

    References:
        J. Yao et al., Learning to Segment from Noisy Annotations: A Spatial Correction Approach, ICLR 2023.
    """

    may_add: ClassVar[bool] = False
    may_empty: ClassVar[bool] = False

    steps: int = 180
    outward: float = 0.8
    flip: float = 0.05
    final: float = 0.2
    sigma: float = 2.0

    def __post_init__(self) -> None:
        require_number("markov_boundary", "steps", self.steps, 0, integer=True)
        require_number("markov_boundary", "outward", self.outward, 0, 1)
        require_number("markov_boundary", "flip", self.flip, 0, 1)
        require_number("markov_boundary", "final", self.final, 0, 0.5)
        require_number("markov_boundary", "sigma", self.sigma, 0)

    def apply(
        self, masks: np.ndarray, draw: Draw, *, spacing: Sequence[float] | None, overlap: bool
    ) -> tuple[np.ndarray, Parameters]:
        """See :meth:`~monai_noisylabel.corruption.model.NoiseModel.apply`; one stream per structure, no spacing."""
        noisy = np.array(masks, dtype=bool)
        drawn: dict[str, dict[str, int]] = {}
        for number in present_structures(masks):
            generator = draw(number)
            outwards = generator.random(self.steps) < self.outward
            noisy[number - 1] = markov_boundary(
                masks[number - 1], outwards, generator, flip=self.flip, final=self.final, sigma=self.sigma
            )
            count = int(np.count_nonzero(outwards))
            drawn[str(number)] = {"outward_steps": count, "inward_steps": self.steps - count}
        return noisy if overlap else paint(noisy, masks), drawn


def markov_boundary(
    mask: np.ndarray,
    outwards: Sequence[bool] | np.ndarray,
    generator: np.random.Generator,
    *,
    flip: float = 0.05,
    final: float = 0.2,
    sigma: float = 2.0,
) -> np.ndarray:
    r"""Let the boundary of one structure wander, then roughen and smooth it.

    First the chain of :func:`wander`, then :func:`roughen`. A structure that the smoothing would remove stays as
    the chain left it, so none vanishes.

    Args:
        mask: binary mask of one structure. It is not changed.
        outwards: for each step of the chain, whether it goes outwards; of the paper's model, independent draws
            with probability theta_1 = 0.8.
        generator: source of the draws.
        flip: theta_2, probability that a voxel of the shell flips in a step.
        final: theta_3, probability that a voxel flips before the blur.
        sigma: of the blur, in voxels.

    Shape:
        mask (\*S) with any number of axes; result the same, of bool.

    Example:
        >>> import numpy as np
        >>> mask = np.zeros((32, 32), bool)
        >>> mask[12:20, 12:20] = True
        >>> noisy = markov_boundary(mask, [True] * 40, np.random.default_rng(0))
        >>> int(mask.sum()), int(noisy.sum())
        (64, 177)

    References:
        J. Yao et al., Learning to Segment from Noisy Annotations: A Spatial Correction Approach, ICLR 2023.
    """
    wandered = wander(mask, outwards, generator, flip=flip)
    rough = roughen(wandered, generator, final=final, sigma=sigma)
    return rough if rough.any() else wandered


def wander(
    mask: np.ndarray, outwards: Sequence[bool] | np.ndarray, generator: np.random.Generator, *, flip: float = 0.05
) -> np.ndarray:
    r"""Markov chain of one structure: at every step some voxels of its outer, or inner, shell change sides.

    .. math:: M_{t+1} = M_t \cup \{v \in \partial^+ M_t : u_v < \theta_2\} \quad\text{or}\quad
        M_{t+1} = M_t \setminus \{v \in \partial^- M_t : u_v < \theta_2\},

    the first for a step outwards. The outer shell holds the voxels outside M that share a face with it, the inner
    shell those of M that share a face with the outside. The border of the image is no boundary. A step that would
    empty the structure is left out. Only voxels of the shells are looked at, in 2D as in 3D.

    Args:
        mask: binary mask of one structure. It is not changed.
        outwards: for each step, whether it goes outwards.
        generator: source of the draws u.
        flip: theta_2, 0 to 1.

    Shape:
        mask (\*S) with any number of axes; result the same, of bool.

    Example:
        >>> import numpy as np
        >>> mask = np.array([0, 0, 0, 1, 0, 0, 0], bool)
        >>> wander(mask, [True, True, False], np.random.default_rng(0), flip=1.0).astype(int).tolist()
        [0, 0, 1, 1, 1, 0, 0]
    """
    mask = np.asarray(mask, dtype=bool)
    result = mask.copy()
    if not mask.any():
        return result
    for start in range(0, len(outwards), BLOCK):
        window = bounding_window(result, BLOCK + 1)
        chain = _Shells(result[window])
        for outward in outwards[start : start + BLOCK]:
            chain.step(OUTSIDE if outward else INSIDE, generator, flip)
        result[window] = chain.mask
    return result


class _Shells:
    """A mask on a flat grid with a wall of one voxel around it, and the flat indices of its two shells.

    A step costs what its shells hold, not what the grid holds: after it, only the voxels that flipped and their
    face neighbours are looked at again.
    """

    def __init__(self, mask: np.ndarray) -> None:
        padded = np.pad(np.where(mask, np.int8(INSIDE), np.int8(OUTSIDE)), 1, constant_values=BEYOND)
        self.shape = padded.shape
        self.side = padded.reshape(-1)
        self.volume = int(np.count_nonzero(mask))
        strides = np.cumprod((1, *padded.shape[:0:-1]))
        self.neighbours = [int(sign * stride) for stride in strides for sign in (-1, 1)]
        self.facing = np.zeros((2, self.side.size), dtype=np.int8)  # neighbours on either side
        first, last = max(self.neighbours), self.side.size - max(self.neighbours)  # the wall before and after
        for side, step in itertools.product((OUTSIDE, INSIDE), self.neighbours):
            self.facing[side, first:last] += self.side[first + step : last + step] == side
        self.listed = np.stack([self._in_shell(side, slice(None)) for side in (OUTSIDE, INSIDE)])
        self.shells = [np.flatnonzero(listed) for listed in self.listed]

    def step(self, side: int, generator: np.random.Generator, flip: float) -> None:
        """Let some voxels of the shell on one side change to the other."""
        shell = self.shells[side]
        flipped = shell[generator.random(shell.size) < flip]
        if side == INSIDE and flipped.size == self.volume:
            return
        self.volume += flipped.size if side == OUTSIDE else -flipped.size
        self.side[flipped] = 1 - side
        touched = [flipped, *(flipped + step for step in self.neighbours)]
        for voxels in touched[1:]:
            self.facing[side, voxels] -= 1
            self.facing[1 - side, voxels] += 1
        self.shells = [self._updated(number, touched) for number in (OUTSIDE, INSIDE)]

    def _updated(self, side: int, touched: list[np.ndarray]) -> np.ndarray:
        listed = self.listed[side]
        new = []
        for voxels in touched:  # no voxel twice in any of these arrays, but the same one in several
            belongs = self._in_shell(side, voxels)
            new.append(voxels[belongs & ~listed[voxels]])
            listed[voxels] = belongs
        kept = self.shells[side]
        return np.concatenate([kept[listed[kept]], *new])

    def _in_shell(self, side: int, voxels: np.ndarray | slice) -> np.ndarray:
        """Which voxels are on a side and share a face with the other one."""
        return (self.side[voxels] == side) & (self.facing[1 - side, voxels] > 0)

    @property
    def mask(self) -> np.ndarray:
        """The mask, without the wall."""
        return (self.side.reshape(self.shape) == INSIDE)[(slice(1, -1),) * len(self.shape)]


def roughen(mask: np.ndarray, generator: np.random.Generator, *, final: float = 0.2, sigma: float = 2.0) -> np.ndarray:
    r"""Flip voxels at random, blur, and threshold: the boundary gets a short jitter, then is smooth again.

    .. math:: M' = \{v : (G_\sigma * (M \oplus F))(v) > 0.5\}, \qquad P(v \in F) = \theta_3,

    with a Gaussian cut off 2 voxels away from its centre, 5 wide, as in the public code. It is evaluated where
    the kernel sees both sides of the boundary; elsewhere the mask stays, since nothing could come of it there but
    specks that happen to survive the blur.

    Args:
        mask: binary mask of one structure. It is not changed.
        generator: source of the flips F.
        final: theta_3, 0 to 0.5.
        sigma: of the Gaussian, in voxels; 0 for no blur.

    Shape:
        mask (\*S) with any number of axes; result the same, of bool.

    Example:
        >>> import numpy as np
        >>> mask = np.zeros((9, 40), bool)
        >>> mask[:, 20:] = True
        >>> rough = roughen(mask, np.random.default_rng(0))
        >>> np.argmax(rough, axis=1).tolist()
        [19, 19, 20, 20, 20, 20, 20, 21, 21]

    Deviation:
        The public code applies it to the whole image. At the settings of the paper a pixel far from the boundary
        then ends up on the wrong side with probability 0.0007: some 20 specks in an image of 256 x 256, all over
        the background.
    """
    mask = np.asarray(mask, dtype=bool)
    result = mask.copy()
    if not mask.any():
        return result
    window = bounding_window(mask, 2 * KERNEL_RADIUS)
    inside = mask[window]
    width = 2 * KERNEL_RADIUS + 1
    seen = ndimage.maximum_filter(inside, width) & ~ndimage.minimum_filter(inside, width)
    flipped = inside ^ (generator.random(inside.shape) < final)
    blurred = ndimage.gaussian_filter(flipped.astype(float), sigma, radius=KERNEL_RADIUS, mode="nearest")
    result[window] = np.where(seen, blurred > 0.5, inside)
    return result
