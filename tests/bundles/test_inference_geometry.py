"""Predicted labels lie where the image lies, however its axes are stored."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from dataset_files import manifest, write_volume
from monai.bundle import ConfigWorkflow
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from running_bundles import BUNDLES, REPOSITORY
from scipy.spatial.transform import Rotation

pytestmark = pytest.mark.bundle

BRIGHT = 55  # HU; the middle of the window of phantom_hcc, -70 to 180
WINDOW = {"window": [-70, 180], "normalise": "window"}
STORED = ("RAS", "LPS", "PIR", "ASL", "SAR", "oblique RAS", "oblique PIR")


def stored_volume(path: Path, name: str, values: np.ndarray) -> Path:
    """One volume of the world, its axes in the order and directions that the name tells."""
    affine = np.diag([5.0, 4.0, 20.0, 1.0])
    affine[:3, 3] = (-20.5, 30.25, 7.75)
    if name.startswith("oblique"):
        affine[:3] = Rotation.from_euler("xyz", [10, -15, 20], degrees=True).as_matrix() @ affine[:3]
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(name[-3:]))
    return write_volume(path, apply_orientation(values, turn), affine @ inv_ornt_aff(turn, values.shape))


def infer(bundle: str, dims: int, folder: Path, **inputs: object) -> Path:
    """Folder that inference.json writes to, with a network that marks voxels above the middle of the window."""
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
        spatial_dims=dims,
        network_def=definition,
        **inputs,
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return folder / "out"


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("bundle", BUNDLES)
@pytest.mark.parametrize("slices", [6, 1])
def test_labels_lie_on_the_grid_of_the_image(bundle: str, dims: int, slices: int, tmp_path: Path) -> None:
    values = np.random.default_rng(0).choice([0.0, 100.0], (20, 24, slices)).astype(np.float32)
    paths = [stored_volume(tmp_path / f"{name.replace(' ', '_')}.nii.gz", name, values) for name in STORED]
    out = infer(bundle, dims, tmp_path, images=[str(path) for path in paths])
    for path in paths:
        name = path.name.removesuffix(".nii.gz")
        image, written = nibabel.load(path), nibabel.load(out / name / f"{name}_seg.nii.gz")
        np.testing.assert_array_equal(written.affine, image.affine, err_msg=path.name)
        np.testing.assert_array_equal(written.get_fdata(), image.get_fdata() > BRIGHT, err_msg=path.name)
        assert written.get_data_dtype() == np.uint8


@pytest.mark.parametrize("bundle", BUNDLES)
def test_images_of_one_name_keep_their_folders(bundle: str, tmp_path: Path) -> None:
    made = manifest(layout={"image": "{case}/t1.nii.gz", "label": "{case}/label.nii.gz"}, preprocessing=WINDOW)
    (tmp_path / "made.json").write_text(made.model_dump_json())
    for number in (1, 2):
        values = np.full((8, 8, 4), 0.0, np.float32)
        values[:number] = 100
        write_volume(tmp_path / f"data/p{number}/t1.nii.gz", values)
    inputs = {"manifest": str(tmp_path / "made.json"), "dataset_dir": str(tmp_path / "data")}
    out = infer(bundle, 3, tmp_path, **inputs)
    for number in (1, 2):
        written = nibabel.load(out / f"p{number}/t1/t1_seg.nii.gz")
        assert written.get_fdata().sum() == number * 8 * 4
