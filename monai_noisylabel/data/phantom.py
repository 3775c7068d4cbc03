"""A small abdominal CT set, drawn from a seed: the data of a first run that downloads nothing.

Each case is a torso in Hounsfield units, as it looks in the portal venous phase: fat, muscle wall, ribs,
spine, lungs, heart, great vessels, kidneys, spleen, stomach, bowel, gallbladder, and a liver of its own shape
with vessels and up to four tumours that are little darker than the liver around them. Spleen, stomach wall,
bowel and muscle have values close to the liver's, so that position and shape have to be learned, not a
threshold.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from monai_noisylabel.data.phantom_anatomy import check_grid, phantom_case

__all__ = ["cache_folder", "cached_phantom", "make_phantom"]

VERSION = 2  # raise when the drawing changes: cached folders of another version are not reused


def cache_folder() -> Path:
    """Folder for generated files: environment variable NOISYLABEL_CACHE or ``~/.cache/monai_noisylabel``."""
    return Path(os.environ.get("NOISYLABEL_CACHE") or Path.home() / ".cache" / "monai_noisylabel")


def cached_phantom(seed: int = 0) -> Path:
    """The default phantom set, generated on first use in the cache folder and reused afterwards.

    Args:
        seed: seed of the whole set.

    Returns:
        Its folder with ``images/`` and ``labels/``.
    """
    return make_phantom(cache_folder() / f"phantom_hcc_v{VERSION}_seed{seed}", seed=seed)


def make_phantom(
    root: str | Path,
    *,
    seed: int = 0,
    cases: int = 60,
    shape: Sequence[int] = (64, 64, 20),
    spacing: Sequence[float] = (5.0, 5.0, 8.0),
) -> Path:
    """Write a phantom set as ``images/liver_000.nii.gz`` (int16, HU) and ``labels/liver_000.nii.gz`` (uint8).

    A case depends on the seed and its own number only: the first ten of sixty cases are the ten cases of a
    smaller set. The set appears in one step when it is complete; a complete set with the same parameters is
    reused.

    Args:
        root: folder of the set; its parents are created.
        seed: seed of the whole set.
        cases: number of cases.
        shape: voxels per axis; the number of slices varies by a fifth around the last one.
        spacing: voxel size in mm. The field of view should hold a torso of about 290 x 210 mm.

    Returns:
        ``root`` as a path. ``phantom.json`` in it records the parameters.

    Raises:
        ValueError: if a parameter is out of its range.
        FileExistsError: if ``root`` holds something else than this set.

    Example:
        >>> import tempfile
        >>> root = tempfile.mkdtemp() + "/set"
        >>> folder = make_phantom(root, cases=2, shape=(32, 32, 8), spacing=(10, 10, 20))
        >>> sorted(path.name for path in folder.glob("*/*.nii.gz"))
        ['liver_000.nii.gz', 'liver_000.nii.gz', 'liver_001.nii.gz', 'liver_001.nii.gz']
    """
    root = Path(root)
    if cases < 1:
        raise ValueError(f"make_phantom: cases must be at least 1, got {cases}.")
    check_grid(shape, spacing)
    parameters = {
        "version": VERSION,
        "seed": int(seed),
        "cases": int(cases),
        "shape": [int(n) for n in shape],
        "spacing": [float(mm) for mm in spacing],
    }
    if _finished(root, parameters):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    try:
        _write(unfinished, parameters)
        with contextlib.suppress(OSError):  # another process may have finished the same set first
            unfinished.rename(root)
        if not _finished(root, parameters):
            raise FileExistsError(f"{root} could not be replaced by the phantom set; give another folder.")
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return root


def _finished(root: Path, parameters: dict[str, object]) -> bool:
    """Whether root is this set; False if it is free, an error if it holds something else."""
    record = root / "phantom.json"
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    found = json.loads(record.read_text()) if record.is_file() else None
    if found != parameters:
        raise FileExistsError(
            f"{root} exists and holds {'other files' if found is None else f'a phantom set of {found}'}, "
            f"not the phantom set of {parameters}; give another folder or remove it."
        )
    return True


def _write(folder: Path, parameters: dict[str, Any]) -> None:
    seed, cases, shape, spacing = (parameters[key] for key in ("seed", "cases", "shape", "spacing"))
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])  # voxel axes run left, posterior, superior
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for number in range(cases):
        for kind, volume in zip(("images", "labels"), phantom_case(seed, number, shape, spacing), strict=True):
            file = nibabel.Nifti1Image(volume, affine)
            file.header.set_xyzt_units("mm")
            nibabel.save(file, folder / kind / f"liver_{number:03d}.nii.gz")
    (folder / "phantom.json").write_text(json.dumps(parameters, indent=2) + "\n")
    folder.chmod(0o755)
