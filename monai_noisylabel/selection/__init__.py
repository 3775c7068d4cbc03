"""Selection: from per-sample losses to the decision which labels are trusted."""

from __future__ import annotations

from .cascade import Verdict, cascade
from .gmm import CleanSplit, split_clean

__all__ = ["CleanSplit", "Verdict", "cascade", "split_clean"]
