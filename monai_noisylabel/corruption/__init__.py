"""Simulated label noise: a clean label and explicit parameters give a noisy label and a record."""

from __future__ import annotations

from .boundary import draw_boundary_shift, shift_boundaries, shift_boundary
from .generator import case_generator
from .missing import draw_slices, remove_annotation
from .recipe import NoiseRecipe, corrupt
from .record import NoiseRecord

__all__ = [
    "NoiseRecipe",
    "NoiseRecord",
    "case_generator",
    "corrupt",
    "draw_boundary_shift",
    "draw_slices",
    "remove_annotation",
    "shift_boundaries",
    "shift_boundary",
]
