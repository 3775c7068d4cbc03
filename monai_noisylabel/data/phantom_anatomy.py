"""Drawing of one case of the phantom set: a torso in Hounsfield units with liver and tumours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

__all__ = ["check_grid", "phantom_case"]

AIR, LUNG, FAT, MUSCLE, BONE = -1000.0, -830.0, -100.0, 55.0, 260.0


def check_grid(shape: Sequence[int], spacing: Sequence[float]) -> None:
    """Raise ValueError for a voxel grid that cannot hold the phantom."""
    if len(shape) != 3 or min(shape) < 8:
        raise ValueError(f"phantom: shape needs three numbers of at least 8 voxels, got {tuple(shape)}.")
    if len(spacing) != 3 or min(spacing) <= 0:
        raise ValueError(f"phantom: spacing needs three positive numbers in mm, got {tuple(spacing)}.")


def phantom_case(
    seed: int, number: int, shape: Sequence[int] = (64, 64, 20), spacing: Sequence[float] = (5.0, 5.0, 8.0)
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one case.

    Args:
        seed: seed of the whole set, at least 0.
        number: number of the case in the set, at least 0.
        shape: voxels per axis, towards left, posterior and superior; the number of slices varies by a fifth.
        spacing: voxel size in mm.

    Returns:
        CT in HU (int16) and label (uint8; 0 background, 1 liver, 2 tumour).

    Raises:
        ValueError: if a parameter is out of its range.

    Example:
        >>> image, label = phantom_case(seed=0, number=0)
        >>> image.shape == label.shape, image.dtype.name, int(image.min()), np.unique(label).tolist()
        (True, 'int16', -1024, [0, 1, 2])
    """
    check_grid(shape, spacing)
    generator = np.random.default_rng([seed, number])
    slices = max(4, round(shape[2] * generator.uniform(0.8, 1.2)))
    points = _points((*shape[:2], slices), spacing)
    torso = _Torso(points, generator)
    liver = torso.liver()
    image = torso.surroundings()
    organ_hu = generator.uniform(88.0, 118.0)
    image[liver] = organ_hu
    image[liver & torso.vessels()] = organ_hu + generator.uniform(25.0, 45.0)
    tumour = _paint_tumours(image, liver, points, spacing, organ_hu, generator)
    label = liver.astype(np.uint8) + tumour
    return _scan(image, points, generator), label


def _points(shape: Sequence[int], spacing: Sequence[float]) -> np.ndarray:
    """Coordinates (3, *S) in mm of every voxel around the centre: left, posterior, superior."""
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def _smooth_field(shape: Sequence[int], knots: int, generator: np.random.Generator) -> np.ndarray:
    """Random field of unit variance: Gaussian bumps of random height on a coarse grid of knots."""
    bumps = []
    for n in shape:
        distance = np.linspace(0, knots - 1, n)[:, None] - np.arange(knots)
        weight = np.exp(-0.5 * (distance / 0.7) ** 2)
        bumps.append(weight / np.linalg.norm(weight, axis=1, keepdims=True))
    heights = generator.normal(size=(knots, knots, knots))
    heights = np.einsum("ai,ijk->ajk", bumps[0], heights)
    heights = np.einsum("bj,ajk->abk", bumps[1], heights)
    return np.asarray(np.einsum("ck,abk->abc", bumps[2], heights))


def _radius(
    points: np.ndarray, centre: Sequence[float] | np.ndarray, radii: Sequence[float] | np.ndarray
) -> np.ndarray:
    """Distance from the centre in units of the radii: below 1 inside the ellipsoid (ellipse for two)."""
    terms = [((points[axis] - centre[axis]) / radii[axis]) ** 2 for axis in range(len(centre))]
    return np.asarray(np.sqrt(sum(terms)))


class _Torso:
    """Anatomy of one case on a grid of points; every part is drawn in smoothly displaced coordinates."""

    def __init__(self, points: np.ndarray, generator: np.random.Generator) -> None:
        self.draw = generator
        shape = points.shape[1:]
        build = generator.uniform(0.92, 1.06)
        shift = np.stack([_smooth_field(shape, 4, generator) for _ in range(3)])
        self.points = points / build + 4.0 * shift
        self.points[2] += generator.uniform(-8.0, 8.0)
        body = (generator.uniform(134.0, 146.0), generator.uniform(96.0, 106.0))
        fat = generator.uniform(9.0, 20.0)
        self.body = _radius(self.points, (0.0, 0.0), body) < 1
        self.wall = _radius(self.points, (0.0, 2.0), (body[0] - fat, body[1] - fat))
        self.cavity = _radius(self.points, (0.0, -4.0), (body[0] - fat - 13, body[1] - fat - 12)) < 1
        self.dome = generator.uniform(52.0, 66.0)
        x, y, z = self.points
        right = self.dome - 55 * (((x + 52) / 90) ** 2 + ((y + 5) / 85) ** 2)
        left = self.dome - 12 - 55 * (((x - 55) / 85) ** 2 + ((y + 5) / 85) ** 2)
        self.below_diaphragm = z < np.maximum(right, left)
        self.gallbladder = _radius(self.points, self._near((-48, -42, -30)), (14, 15, 22)) < 1

    def _near(self, centre: Sequence[float], spread: float = 5.0) -> list[float]:
        return [float(mm + self.draw.uniform(-spread, spread)) for mm in centre]

    def liver(self) -> np.ndarray:
        """Right lobe, left lobe of varied size, a bumpy surface, and the cut of the visceral surface."""
        x, y, z = self.points
        size = self.draw.uniform(0.88, 1.08, size=4)
        right = _radius(self.points, self._near((-58, -2, -5)), (58 * size[0], 66 * size[1], 72 * size[2]))
        left = _radius(self.points, self._near((-5, -42, 18)), (78 * size[3], 34, 38))
        surface = np.minimum(right, left) + 0.06 * _smooth_field(x.shape, 5, self.draw)
        tilt = self.draw.uniform(0.35, 0.6)
        visceral = z + 0.25 * y > -58 + tilt * (x + 70)
        hilum = _radius(self.points, self._near((-18, 12, -2)), (24, 20, 45)) > 1
        return (surface < 1) & visceral & hilum & self.cavity & self.below_diaphragm & ~self.gallbladder

    def vessels(self) -> np.ndarray:
        """Veins that branch from the hilum into the lobes."""
        hilum = np.array(self._near((-25, -5, 5)))
        mask = np.zeros(self.points.shape[1:], dtype=bool)
        for end in ((-95, -25, 25), (-85, 35, 10), (-60, -40, 45), (25, -45, 25), (-75, 10, -45)):
            branch = np.array(self._near(end, 12.0)) - hilum
            offset = self.points - hilum[:, None, None, None]
            along = np.clip(np.tensordot(branch, offset, 1) / (branch @ branch), 0, 1)
            distance = np.linalg.norm(offset - branch[:, None, None, None] * along, axis=0)
            mask |= distance < 6.0 - 3.5 * along
        return mask

    def surroundings(self) -> np.ndarray:
        """CT values of everything but the liver."""
        x, y, _ = self.points
        image = np.where(self.body, FAT, AIR)
        image[self.body & (self.wall < 1)] = MUSCLE
        ribs = np.cos(9 * np.arctan2(y, x) + self.points[2] / 14) > 0.72
        image[(np.abs(self.wall - 0.93) < 0.035) & ribs & (y < 60)] = BONE
        image[self.cavity] = FAT + self.draw.uniform(-5, 10)
        image[self.cavity & ~self.below_diaphragm] = LUNG
        self._paint_digestive(image)
        for side in (-1, 1):
            centre = self._near((side * 58, 42, -38))
            image[_radius(self.points, centre, (25, 22, 46)) < 1] = self.draw.uniform(125, 165)
            image[_radius(self.points, (centre[0] - side * 9, *centre[1:]), (9, 8, 20)) < 1] = 30.0
        spleen = _radius(self.points, self._near((84, 22, 8)), (27, 40, 40 * self.draw.uniform(0.8, 1.2)))
        image[(spleen < 1) & self.cavity & self.below_diaphragm] = self.draw.uniform(95, 130)
        heart = _radius(self.points, self._near((18, -25, self.dome + 18)), (52, 42, 34)) < 1
        image[heart & self.cavity & ~self.below_diaphragm] = self.draw.uniform(95, 130)
        self._paint_midline(image)
        image[self.gallbladder & self.cavity] = self.draw.uniform(5, 18)
        return image

    def _paint_digestive(self, image: np.ndarray) -> None:
        inside = self.cavity & self.below_diaphragm
        stomach = _radius(self.points, self._near((52, -32, 12), 8.0), (36, 36, 36))
        image[(stomach < 1) & inside] = self.draw.uniform(70, 95)
        image[(stomach < 0.82) & inside] = self.draw.uniform(15, 55)
        if self.draw.random() < 0.5:
            image[(stomach < 0.8) & inside & (self.points[1] < -50)] = -900.0
        for _ in range(16):
            centre = [self.draw.uniform(-75, 85), self.draw.uniform(-65, 20), self.draw.uniform(-95, -35)]
            loop = _radius(self.points, centre, self.draw.uniform(11, 24, size=3))
            image[(loop < 1) & inside] = self.draw.uniform(55, 105)
            image[(loop < 0.55) & inside] = self.draw.choice([15.0, 40.0, -700.0])

    def _paint_midline(self, image: np.ndarray) -> None:
        """Spine, back muscles, aorta and vena cava."""
        for side in (-1, 1):
            image[_radius(self.points, (side * 34, 70), (22, 17)) < 1] = MUSCLE
        spine = _radius(self.points, (0, 56), (23, 18))
        image[spine < 1] = BONE + 80
        image[spine < 0.8] = 170.0
        image[(np.abs(self.points[0]) < 5) & (np.abs(self.points[1] - 84) < 9)] = BONE
        image[_radius(self.points, (0, 77), (9, 7)) < 1] = 25.0
        image[_radius(self.points, self._near((9, 28), 3.0), (11, 11)) < 1] = self.draw.uniform(140, 175)
        image[_radius(self.points, self._near((-20, 24), 3.0), (12, 10)) < 1] = self.draw.uniform(115, 145)


def _paint_tumours(
    image: np.ndarray,
    liver: np.ndarray,
    points: np.ndarray,
    spacing: Sequence[float],
    organ_hu: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """Draw 0 to 4 tumours of 10 to 32 mm radius into the liver; returns their mask."""
    tumours = np.zeros(liver.shape, dtype=bool)
    depth = ndimage.distance_transform_edt(liver, sampling=spacing)
    for _ in range(generator.choice(5, p=[0.06, 0.22, 0.3, 0.24, 0.18])):
        size = np.exp(generator.uniform(np.log(10.0), np.log(32.0)))
        places = np.argwhere(depth > min(0.6 * size, 0.8 * depth.max()))
        if len(places) == 0:
            break
        centre = points[(slice(None), *places[generator.integers(len(places))])]
        radii = size * generator.uniform(0.85, 1.2, size=3)
        surface = _radius(points, centre, radii) + 0.08 * _smooth_field(liver.shape, 6, generator)
        mask = (surface < 1) & liver
        image[mask] = organ_hu - generator.uniform(20.0, 40.0)
        if generator.random() < 0.4 and size > 18.0:  # a smaller one would vanish under its bright rim
            image[mask & (surface > 0.86)] = organ_hu + generator.uniform(10.0, 20.0)
        tumours |= mask
    return tumours


def _scan(image: np.ndarray, points: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Partial volume, shading and noise of the scanner; int16 HU from -1024 on."""
    inside = image > AIR
    soft = ndimage.gaussian_filter(image, (0.45, 0.45, 0.3))
    shading = 6.0 * _smooth_field(image.shape, 3, generator) + 5.0 * _radius(points, (0.0, 0.0), (140.0, 100.0)) ** 2
    grain = ndimage.gaussian_filter(generator.normal(size=image.shape), (1.0, 1.0, 0.0))
    noise = 9.0 * generator.normal(size=image.shape) + 7.0 * grain / grain.std()
    return np.asarray(np.clip(np.rint(soft + noise + shading * inside), -1024, 3071), dtype=np.int16)
