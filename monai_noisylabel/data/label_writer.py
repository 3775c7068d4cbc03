"""Writing of predicted labels on the grid of their image, whatever its orientation and number of slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from monai.config import NdarrayOrTensor
from monai.data import NibabelWriter
from monai.utils import convert_data_type

__all__ = ["LabelWriter"]


class LabelWriter(NibabelWriter):
    r"""Writer for MONAI's ``SaveImage`` that writes voxels to NIfTI as they are: never resampled, no axis dropped.

    Use it as ``SaveImaged("pred", writer=LabelWriter, resample=False, ...)`` after ``Invertd``. The affine is that
    of the label; where it agrees with ``meta["original_affine"]`` up to the rounding of an inverted preprocessing,
    it is exactly the latter.

    MONAI's own writers remove axes of length 1 at the end and take a volume for an image where the channel is
    moved (MONAI 1.6.1): a volume of one slice, and one whose first two axes do not span the transverse plane, such
    as PIR, end in an error.

    Args:
        output_dtype: data type in the file.

    Shape:
        label (1, \*S) or (K, \*S), S of 2 or 3 axes; file (\*S) for one channel, (\*S, K) for several, where S gets
        a third axis.

    Raises:
        ValueError: by ``set_metadata`` if it is to resample.

    Example:
        >>> import tempfile, nibabel
        >>> from monai.data import MetaTensor
        >>> from monai.transforms import SaveImage
        >>> folder = tempfile.mkdtemp()
        >>> posterior_inferior = np.array([[0, 0, 1.0, 5], [-2, 0, 0, 6], [0, -3, 0, 7], [0, 0, 0, 1]])
        >>> label = MetaTensor(np.ones((1, 4, 5, 1)), affine=posterior_inferior)
        >>> _ = SaveImage(folder, writer=LabelWriter, print_log=False)(label, filename=folder + "/label")
        >>> written = nibabel.load(folder + "/label.nii.gz")
        >>> written.shape, nibabel.aff2axcodes(written.affine)
        ((4, 5, 1), ('P', 'I', 'R'))
    """

    def set_data_array(
        self, data_array: NdarrayOrTensor, channel_dim: int | None = 0, squeeze_end_dims: bool = True, **kwargs: Any
    ) -> None:
        """Take the voxels; ``channel_dim`` None stands for a label without channel."""
        values = convert_data_type(data_array, np.ndarray)[0]
        values = values[None] if channel_dim is None else np.moveaxis(values, channel_dim, 0)
        if len(values) == 1:
            self.data_obj = values[0]
        else:
            self.data_obj = np.moveaxis(values.reshape(*values.shape, *[1] * (4 - values.ndim)), 0, -1)

    def set_metadata(self, meta_dict: Mapping[str, Any] | None, resample: bool = False, **options: Any) -> None:
        """Take the place of the voxels in the world."""
        if resample:
            raise ValueError("LabelWriter writes labels as they are: invert the preprocessing and set resample=False.")
        original, affine, _ = self.get_meta_info(meta_dict)
        self.affine = None if affine is None else np.asarray(affine, dtype=float)
        if original is not None and np.shape(original) == np.shape(affine):
            exact = np.asarray(original, dtype=float)
            if np.allclose(exact, self.affine, atol=1e-3):
                self.affine = exact
