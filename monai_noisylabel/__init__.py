"""Learning medical image segmentation from noisy labels, as MONAI transforms, losses, handlers and bundles."""

from importlib.metadata import PackageNotFoundError, version

from monai_noisylabel import (
    correction,
    corruption,
    data,
    estimation,
    handlers,
    losses,
    masks,
    metrics,
    networks,
    selection,
    transforms,
)

try:
    __version__ = version("monai_noisylabel")
except PackageNotFoundError:  # running from a source tree that is not installed
    __version__ = "0.0.0"

__all__ = [
    "correction",
    "corruption",
    "data",
    "estimation",
    "handlers",
    "losses",
    "masks",
    "metrics",
    "networks",
    "selection",
    "transforms",
]
