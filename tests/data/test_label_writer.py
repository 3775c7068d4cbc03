"""Predicted labels as files."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import SaveImage

from monai_noisylabel.data import LabelWriter

AFFINE = np.array([[0, 0.3, 1.9, 5.1], [-2.2, 0, 0.1, 6.3], [0.2, -3.4, 0, 7.7], [0, 0, 0, 1]])


def saved(label: MetaTensor, folder: Path) -> nibabel.Nifti1Image:
    save = SaveImage(folder, writer=LabelWriter, output_dtype=np.uint8, resample=False, print_log=False)
    save(label, filename=folder / "label")
    return nibabel.load(folder / "label.nii.gz")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 4, 5, 6), (4, 5, 6)),
        ((1, 4, 5, 1), (4, 5, 1)),
        ((1, 1, 5, 1), (1, 5, 1)),
        ((3, 4, 5, 6), (4, 5, 6, 3)),
        ((3, 4, 5, 1), (4, 5, 1, 3)),
        ((1, 4, 5), (4, 5)),
        ((2, 4, 5), (4, 5, 1, 2)),
    ],
)
def test_voxels_are_written_as_they_are(shape: tuple[int, ...], expected: tuple[int, ...], tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 9, shape)
    written = saved(MetaTensor(torch.tensor(values), affine=torch.tensor(AFFINE)), tmp_path)
    assert written.shape == expected
    last = values[0] if shape[0] == 1 else np.moveaxis(values, 0, -1).reshape(expected)
    np.testing.assert_array_equal(written.get_fdata(), last)
    np.testing.assert_allclose(written.affine, AFFINE, rtol=1e-6)
    assert written.get_data_dtype() == np.uint8
    assert (written.header["sform_code"], written.header["qform_code"]) == (1, 1)


def test_a_label_without_channel(tmp_path: Path) -> None:
    label = MetaTensor(torch.ones(4, 1, 6), affine=torch.tensor(AFFINE), meta={"spatial_shape": (4, 1, 6)})
    assert saved(label, tmp_path).shape == (4, 1, 6)


@pytest.mark.parametrize(("off", "taken"), [(4e-4, "original"), (0.1, "own")])
def test_rounding_of_the_affine_is_undone_but_no_movement(off: float, taken: str, tmp_path: Path) -> None:
    own = AFFINE.copy()
    own[0, 3] += off
    label = MetaTensor(torch.ones(1, 4, 5, 6), affine=torch.tensor(own), meta={"original_affine": AFFINE})
    expected = {"original": AFFINE, "own": own}[taken]
    np.testing.assert_array_equal(saved(label, tmp_path).affine, expected.astype(np.float32))


def test_an_array_without_metadata_and_a_wish_to_resample() -> None:
    writer = LabelWriter(output_dtype=np.uint8)
    writer.set_data_array(np.ones((1, 2, 3)))
    writer.set_metadata(None)
    assert writer.data_obj.shape == (2, 3)
    assert writer.affine is None
    with pytest.raises(ValueError, match="invert the preprocessing and set resample=False"):
        writer.set_metadata({"affine": np.eye(4)}, resample=True)
