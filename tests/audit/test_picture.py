"""Pictures of findings: what they show, where, and how large they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_noisylabel.audit.picture import CONTEXT, draw_overlay
from monai_noisylabel.corruption.window import square_window


def _disc(size: int, centre: tuple[int, int], radius: float) -> np.ndarray:
    x, y = np.indices((size, size))
    return np.asarray(np.hypot(x - centre[0], y - centre[1]) <= radius)


def test_a_window_around_the_region_stays_in_the_image() -> None:
    mask = np.zeros((200, 100), bool)
    mask[150:170, 90:95] = True
    assert square_window(mask, (1.0, 1.0), CONTEXT) == (slice(140, 180), slice(60, 100))
    assert square_window(mask, (1.0, 2.0), CONTEXT) == (
        slice(120, 200),
        slice(60, 100),
    )  # 80 by 40 voxels are square in mm
    assert square_window(np.zeros((9, 9), bool), (1.0, 1.0), CONTEXT) == (slice(None), slice(None))


def test_outlines_region_and_direction(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(100, 30, (1, 128, 128)).astype(np.float32)
    given, proposed = _disc(128, (90, 30), 10), _disc(128, (90, 30), 18)
    wrong = proposed & ~given
    path = tmp_path / "a" / "x.webp"
    draw_overlay(image, given, proposed, wrong, (1.0, 1.0), (0.0, 200.0), path)
    with Image.open(path) as picture:
        assert picture.size == (320, 320)
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    red, _, blue = np.moveaxis(pixels, -1, 0)
    window = square_window(wrong, (1.0, 1.0), CONTEXT)
    scale = 320 / (window[0].stop - window[0].start)
    centre = ((90.5 - window[0].start) * scale, (30.5 - window[1].start) * scale)
    for colour, radius in (((red > 180) & (blue < 110), 10), ((blue > 150) & (red < 110), 18)):
        rows, columns = np.nonzero(colour)
        assert len(rows) > 200
        assert columns.mean() == pytest.approx(centre[0], abs=6)
        assert rows.mean() == pytest.approx(centre[1], abs=6)
        assert np.hypot(columns - centre[0], rows - centre[1]).mean() == pytest.approx(radius * scale, rel=0.1)
    assert path.stat().st_size < 25_000


def test_voxels_that_are_not_square_and_colours(tmp_path: Path) -> None:
    image = np.zeros((3, 60, 30), np.float32)
    image[0] = 255
    empty = np.zeros((60, 30), bool)
    draw_overlay(image, empty, empty, empty, (1.0, 4.0), (0.0, 255.0), tmp_path / "x.webp")
    with Image.open(tmp_path / "x.webp") as picture:
        assert picture.size == (160, 320)
        assert np.asarray(picture.convert("RGB")).reshape(-1, 3).mean(0) == pytest.approx([254, 0, 0], abs=6)
