"""Small datasets of endoscopy and of fundus photography on disk, in the layouts of the shipped manifests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from dataset_files import mask, photograph, write_picture


def endovis18(root: Path) -> None:
    """Eight sequences of two frames; labels are colours, with tissue and thread among them."""
    for sequence in (1, 2, 3, 4, 5, 9, 10, 15):
        for frame in (0, 1):
            label = np.zeros((6, 8, 3), np.uint8)
            label[1:3, 1:3], label[3, 3], label[4, 4] = (0, 255, 0), (125, 255, 12), (0, 255, 255)
            label[5, 5], label[5, 6] = (255, 55, 0), (187, 155, 25)
            write_picture(root / f"seq_{sequence}/left_frames/frame{frame:03d}.png", photograph())
            write_picture(root / f"seq_{sequence}/labels/frame{frame:03d}.png", label)


def riga(root: Path) -> None:
    """Fundus photographs of three sources with the masks of two raters."""
    label = mask(value=128)
    label[2, 3] = 255
    for source, suffix in (("BinRushed1-Corrected", "jpg"), ("MESSIDOR", "tif"), ("MagrabiaMale", "tif")):
        for n in (1, 2, 10):
            write_picture(root / source / f"image{n}prime.{suffix}", photograph())
            for rater in (1, 2):
                write_picture(root / source / f"image{n}-{rater}.{suffix}", photograph())
                write_picture(root / f"masks/{source}/image{n}-{rater}.png", label)
