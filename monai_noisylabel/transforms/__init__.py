"""MONAI transforms: simulated label noise, stored labels, superpixels, and reproducible augmentation."""

from monai_noisylabel.transforms.label_noise import SimulateLabelNoised
from monai_noisylabel.transforms.per_case_random import PerCaseRandom
from monai_noisylabel.transforms.prototype_relabel import PrototypeRelabeld
from monai_noisylabel.transforms.rand_label_noise import RandLabelNoise, RandLabelNoised
from monai_noisylabel.transforms.stored_label import LoadStoredLabeld
from monai_noisylabel.transforms.superpixels import Superpixels, Superpixelsd

__all__ = [
    "LoadStoredLabeld",
    "PerCaseRandom",
    "PrototypeRelabeld",
    "RandLabelNoise",
    "RandLabelNoised",
    "SimulateLabelNoised",
    "Superpixels",
    "Superpixelsd",
]
