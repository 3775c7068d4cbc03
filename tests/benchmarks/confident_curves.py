"""Draw docs/images/confident_memory.png: memory of confident learning against the number of volumes, beside cleanlab's.

``python tests/benchmarks/confident_curves.py [--out FILE] [--volumes 10 25 50 100 200] [--theirs 2 4 8]``: volumes of
96^3 voxels and four classes; every point is a process of its own. cleanlab is measured where it is installed, for as
many volumes as memory allows.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[1]))

from confident_costs import in_new_process, ours, theirs

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "confident_memory.png"
SPACE = (96, 96, 96)


def measured(name: str, function: object, counts: Sequence[int]) -> list[float]:
    """Memory in MiB for each number of volumes, printed as it comes."""
    found = []
    for count in counts:
        cost = in_new_process(function, count, SPACE)
        found.append(cost.bytes / 2**20)
        print(f"{name}: {count} volumes, {found[-1]:.1f} MiB, {cost.seconds:.1f} s, {cost.errors} voxels", flush=True)
    return found


def draw(curves: dict[str, tuple[Sequence[int], Sequence[float]]], path: Path) -> None:
    """Write the picture."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    panel = figure.subplots()
    for (name, points), color in zip(curves.items(), ("#0072b2", "#d55e00"), strict=False):
        panel.plot(*points, marker="o", label=name, color=color)
    panel.set(xlabel="volumes of 96 x 96 x 96 voxels, 4 classes", ylabel="memory at its peak, MiB", yscale="log")
    panel.set_xscale("log")
    ticks = sorted({count for counts, _ in curves.values() for count in counts})
    panel.set_xticks(ticks, [str(tick) for tick in ticks])
    panel.minorticks_off()
    panel.legend(frameon=False)
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(color="#e5e5e5", linewidth=0.6)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=PICTURE)
    parser.add_argument("--volumes", type=int, nargs="+", default=[10, 25, 50, 100, 200])
    parser.add_argument("--theirs", type=int, nargs="+", default=[10, 25, 50])
    arguments = parser.parse_args()
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**18)  # freed blocks go back at once: no gaps are counted
    curves = {"monai_noisylabel": (arguments.volumes, measured("ours", ours, arguments.volumes))}
    if importlib.util.find_spec("cleanlab"):
        curves["cleanlab 2.9"] = (arguments.theirs, measured("cleanlab", theirs, arguments.theirs))
    draw(curves, arguments.out)
