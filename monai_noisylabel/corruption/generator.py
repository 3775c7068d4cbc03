"""One random generator per case and purpose, so that simulated noise depends on nothing but its names."""

from __future__ import annotations

import hashlib
import json

import numpy as np

__all__ = ["case_generator"]


def case_generator(seed: int, case: str, stream: int | str = "") -> np.random.Generator:
    """Random generator that belongs to one (seed, case, stream) and to nothing else.

    Draws made with it do not depend on the order in which cases are visited, on the number of worker
    processes or on the platform, so a simulated label may be cached, recomputed elsewhere, or made for one
    case alone. Do not use it for augmentation, which has to differ from epoch to epoch.

    Args:
        seed: seed of the experiment, any integer.
        case: name of the case.
        stream: what is drawn: a class value, or a word such as ``"slices"``. ``1`` and ``"1"`` are two
            streams.

    Returns:
        A NumPy generator seeded by a 128-bit BLAKE2b hash of the three.

    Example:
        >>> case_generator(0, "patient001", 1).integers(0, 100, 5).tolist()
        [59, 21, 90, 81, 0]
        >>> case_generator(0, "patient001", 2).integers(0, 100, 5).tolist()
        [25, 0, 71, 93, 79]
    """
    name = json.dumps([int(seed), case, stream])
    digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))
