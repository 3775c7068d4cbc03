"""Simulated label noise: a clean label and explicit parameters give a noisy label and a record."""

from __future__ import annotations

from .affine import AffineNoise
from .boundary import BoundaryNoise, draw_boundary_shift, shift_boundaries, shift_boundary
from .class_flip import ClassFlipNoise
from .confusion import ConfusionNoise
from .corrupt import corrupt
from .ellipse import EllipseNoise
from .generator import case_generator
from .markov_boundary import MarkovBoundaryNoise
from .missing import MissingNoise, draw_slices, remove_annotation
from .model import NoiseModel
from .predicted import PredictedNoise
from .recipe import NOISE_MODELS, NoiseRecipe, parse_model
from .record import NoiseRecord
from .relative_boundary import RelativeBoundaryNoise
from .spurious import SpuriousNoise
from .surface_distance import surface_distance
from .taxonomy import error_kinds

__all__ = [
    "NOISE_MODELS",
    "AffineNoise",
    "BoundaryNoise",
    "ClassFlipNoise",
    "ConfusionNoise",
    "EllipseNoise",
    "MarkovBoundaryNoise",
    "MissingNoise",
    "NoiseModel",
    "NoiseRecipe",
    "NoiseRecord",
    "PredictedNoise",
    "RelativeBoundaryNoise",
    "SpuriousNoise",
    "case_generator",
    "corrupt",
    "draw_boundary_shift",
    "draw_slices",
    "error_kinds",
    "parse_model",
    "remove_annotation",
    "shift_boundaries",
    "shift_boundary",
    "surface_distance",
]
