"""What runs inside MONAI Label. Nothing else imports it, since MONAI Label is no requirement of this library.

MONAI Label imports torchvision, whose wheels fail to import beside a build of PyTorch for the CPU, for the want of two
operators that nothing here calls. Where that is so they are declared, before MONAI Label is imported.
"""

from __future__ import annotations

import sys

import torch

OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def _mended() -> torch.library.Library | None:
    """Holds the declarations, which end with it; None where torchvision needs none."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in OPERATORS:
            library.define(operator)
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        return library
    return None


DECLARED = _mended()
