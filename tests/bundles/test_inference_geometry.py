"""Predicted labels lie where the image lies, however its axes are stored."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from dataset_files import write_volume
from monai.bundle import ConfigWorkflow
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from running_bundles import BUNDLES, REPOSITORY
from scipy.spatial.transform import Rotation

pytestmark = pytest.mark.bundle

BRIGHT = 55  # HU; the middle of the window of phantom_hcc, -70 to 180
STORED = ("RAS", "LPS", "PIR", "ASL", "SAR", "oblique RAS", "oblique PIR")


def stored_volume(path: Path, name: str, values: np.ndarray) -> Path:
    """One volume of the world, its axes in the order and directions that the name tells."""
    affine = np.diag([5.0, 4.0, 20.0, 1.0])
    affine[:3, 3] = (-20.5, 30.25, 7.75)
    if name.startswith("oblique"):
        affine[:3] = Rotation.from_euler("xyz", [10, -15, 20], degrees=True).as_matrix() @ affine[:3]
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(name[-3:]))
    return write_volume(path, apply_orientation(values, turn), affine @ inv_ornt_aff(turn, values.shape))


def infer(bundle: str, dims: int, images: list[Path], folder: Path) -> list[nibabel.Nifti1Image]:
    """What inference.json writes with a network that marks voxels above the middle of the window as class 1."""
    network = (torch.nn.Conv2d, torch.nn.Conv3d)[dims - 2](1, 3, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([0.0, 20, 0]).view(network.weight.shape))
        network.bias.copy_(torch.tensor([0.0, -10, -10]))
    (folder / "models").mkdir()
    torch.save(network.state_dict(), folder / "models" / "model.pt")
    root = REPOSITORY / "bundles" / bundle
    definition = {"_target_": f"torch.nn.Conv{dims}d", "in_channels": 1, "out_channels": 3, "kernel_size": 1}
    workflow = ConfigWorkflow(
        str(root / "configs" / "inference.json"),
        workflow_type="infer",
        bundle_root=str(root),
        ckpt_dir=str(folder / "models"),
        output_dir=str(folder / "out"),
        images=[str(path) for path in images],
        spatial_dims=dims,
        network_def=definition,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    names = [path.name.removesuffix(".nii.gz") for path in images]
    return [nibabel.load(folder / "out" / name / f"{name}_seg.nii.gz") for name in names]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("bundle", BUNDLES)
@pytest.mark.parametrize("slices", [6, 1])
def test_labels_lie_on_the_grid_of_the_image(bundle: str, dims: int, slices: int, tmp_path: Path) -> None:
    values = np.random.default_rng(0).choice([0.0, 100.0], (20, 24, slices)).astype(np.float32)
    paths = [stored_volume(tmp_path / f"{name.replace(' ', '_')}.nii.gz", name, values) for name in STORED]
    for path, written in zip(paths, infer(bundle, dims, paths, tmp_path), strict=True):
        image = nibabel.load(path)
        np.testing.assert_array_equal(written.affine, image.affine, err_msg=path.name)
        np.testing.assert_array_equal(written.get_fdata(), image.get_fdata() > BRIGHT, err_msg=path.name)
        assert written.get_data_dtype() == np.uint8
