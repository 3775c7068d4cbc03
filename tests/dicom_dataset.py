"""A small dataset of DICOM folders, with the manifest of docs/dicom.md."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from dicom_files import write_seg, write_series

from monai_noisylabel.data import Manifest, load_dataset

ROOT = Path(__file__).parents[1]
SHAPE = (12, 10, 6)
AFFINE = np.array([[-1.0, 0, 0, -10], [0, -2, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]])
"""Of the series: DICOM's x runs to the left and y to the back, and their first voxel lies at (10, 20, 30)."""

LIVER, TUMOUR, BODY = (np.zeros(SHAPE, bool) for _ in range(3))
LIVER[2:9, 2:8, 1:5] = True
TUMOUR[4:7, 3:6, 2:4] = True
LIVER &= ~TUMOUR
BODY[1:11, 1:9] = True
VALUES = LIVER + 2 * TUMOUR


def documented(**changes: object) -> Manifest:
    """The manifest in the documentation."""
    found = re.search(r"```json\n(.*?)```", (ROOT / "docs/dicom.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return Manifest.model_validate({**json.loads(found[1]), **changes})


def image(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(-100, 200, SHAPE).astype(np.int16)


def write_case(root: Path, number: int, structures: Sequence[str] = ("Liver", "Tumour", "Body")) -> list[Path]:
    """A case with a scout beside its series, whose segments are numbered as they are listed."""
    folder = root / f"p{number}/ct"
    files = write_series(folder, image(number), description="portal venous")
    write_series(folder, image(number)[:5, :, :1], description="scout", names="scout{}.dcm")
    masks = {"Liver": LIVER, "Tumour": TUMOUR, "Body": BODY}
    write_seg(root / f"p{number}/liver.dcm", files, {name: masks[name] for name in structures})
    return files


def write_dataset(root: Path) -> None:
    """Five cases; in the second one the segments have other numbers."""
    for number in range(5):
        write_case(root, number, ("Body", "Tumour", "Liver") if number == 1 else ("Liver", "Tumour", "Body"))


def overlapping(root: Path) -> Manifest:
    """Cases whose tumour lies in the liver, each structure a mask of its own."""
    for number in range(5):
        files = write_series(root / f"p{number}/ct", image(number), description="portal venous")
        write_seg(root / f"p{number}/liver.dcm", files, {"Liver": LIVER | TUMOUR, "Tumour": TUMOUR})
    return documented(task="multi_label")


def predict(manifest: Manifest, root: Path, folder: Path, structures: Sequence[np.ndarray] = (LIVER, TUMOUR)) -> None:
    """Probabilities that agree with these labels, by default the right ones."""
    spec = load_dataset(manifest, root)
    folder.mkdir()
    for item in spec.train:
        masks = [*structures] if spec.multi_label else [~(structures[0] | structures[1]), *structures]
        p = np.stack(masks) * np.float32(0.9) + np.float32(0.1 / 3) * (not spec.multi_label)
        np.savez(folder / f"{item['case']}.npz", probability=p, affine=AFFINE)
