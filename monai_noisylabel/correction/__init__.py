"""Correction: from features and predictions of one sample to a new label for it."""

from __future__ import annotations

from .grid import grid_cells
from .postprocess import clean_up, clean_up_label
from .prototype import average_prototype, prototypes, representation_degree, similarity
from .relabel import relabel
from .superpixel import proposed_labels, relabel_superpixels, relabel_units

__all__ = [
    "average_prototype",
    "clean_up",
    "clean_up_label",
    "grid_cells",
    "proposed_labels",
    "prototypes",
    "relabel",
    "relabel_superpixels",
    "relabel_units",
    "representation_degree",
    "similarity",
]
