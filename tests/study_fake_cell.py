"""A cell that trains nothing: Dice by a formula of its method and seed; run as ``python study_fake_cell.py FOLDER``."""

import json
import os
import sys
import time
from pathlib import Path

BASE = {"baseline": 0.5, "t_loss": 0.6, "jocor": 0.7}
CASES = ("a", "b", "c", "d", "e", "f")
EPOCHS = 12


def dice(cell: dict, epoch: int, case: int) -> float:
    """Of the liver; the tumour has 0.1 less. Rises to epoch 6; on noisy labels, falls by 0.01 an epoch after it."""
    clean = cell["noise"] == "clean"
    level = 0.9 if clean else BASE[cell["method"]]
    fall = 0.0 if clean else 0.01 * max(0, epoch - 6)
    return level + 0.02 * cell["seed"] + 0.01 * case - 0.05 * max(0, 6 - epoch) - fall


def main(folder: Path) -> None:
    """Do what the plan beside the study's folder says, then leave the files of a training."""
    cell = json.loads((folder / "cell.json").read_text())
    out = folder.parents[4]
    note(out, f"{folder.relative_to(out / 'cells')} begin")
    path = out.parent / f"{out.name}_plan.json"
    plan = json.loads(path.read_text()) if path.exists() else {}
    behave(cell, folder, out, plan)
    means = {epoch: sum(dice(cell, epoch, n) for n in range(len(CASES))) / len(CASES) for epoch in range(1, EPOCHS + 1)}
    evaluation = folder / "eval"
    evaluation.mkdir(exist_ok=True)
    columns = "epoch,train_loss,val_mean_dice,test_mean_dice,test_mean_dice_liver,test_mean_dice_tumour\n"
    rows = [f"{e},{1 / e},{m - 0.05},{m - 0.05},{m},{m - 0.1}\n" for e, m in means.items()]
    (evaluation / "metrics.csv").write_text(columns + "".join(rows))
    lines = [
        f'{epoch},"{case}","{case}",{name},{dice(cell, epoch, n) - less}\n'
        for epoch in means
        for n, case in enumerate(CASES)
        for name, less in (("liver", 0.0), ("tumour", 0.1))
    ]
    (evaluation / "test_cases.csv").write_text("epoch,case,patient,class,dice\n" + "".join(lines))
    finish(cell, folder, means)
    note(out, f"{folder.relative_to(out / 'cells')} end")


def behave(cell: dict, folder: Path, out: Path, plan: dict) -> None:
    """Fail or wait, if the plan says so."""
    time.sleep(plan.get("seconds", 0))
    tried = folder / "tried"
    again = tried.exists()
    tried.touch()
    if cell["method"] in plan.get("fail", ()) or (cell["method"] in plan.get("fail_once", ()) and not again):
        print("this method is made to fail")
        sys.exit(3)
    if cell["method"] in plan.get("wait", ()) and not again:
        note(out, f"process {os.getpid()}")
        sys.stdin.buffer.read()  # until the runner is gone, or interrupts
        sys.exit(70)


def finish(cell: dict, folder: Path, means: dict) -> None:
    """Write what a training writes last."""
    best = max(means, key=means.get)
    models = {name: {"epoch": e, "dice": of(means[e])} for name, e in (("l_model", EPOCHS), ("b_model", best))}
    last = [means[epoch] - 0.05 for epoch in means][-10:]
    record = {
        "cell": cell,
        "summary": {
            "epochs": EPOCHS,
            "seconds": 24.0,
            "classes": ["liver", "tumour"],
            "test_dice": {**models, "last_10_mean": sum(last) / len(last)},
        },
        "cost": {"seconds_per_epoch": 2.0, "peak_memory_mib": 512, "peak_gpu_memory_mib": None},
        "made_by": {"monai_noisylabel": "fake", "device": os.environ.get("CUDA_VISIBLE_DEVICES", "none")},
    }
    record["cost"] |= {"wall_seconds": 30.0, "runner_seconds": 0.1}
    draft = folder / ".record"
    draft.write_text(json.dumps(record))
    draft.replace(folder / "record.json")


def of(mean: float) -> dict:
    """Dice per structure."""
    return {"mean": mean - 0.05, "liver": mean, "tumour": mean - 0.1}


def note(out: Path, line: str) -> None:
    """Add a line that other processes do not tear apart."""
    with (out / "fake_runs.txt").open("a") as stream:
        stream.write(line + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
