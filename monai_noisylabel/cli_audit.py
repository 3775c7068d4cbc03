"""The command ``noisylabel audit``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from monai_noisylabel.cli_console import (
    DatasetDir,
    LabelFormat,
    SpatialDims,
    console,
    print_failures,
    progress_bar,
    unusable,
)

if TYPE_CHECKING:
    from monai_noisylabel.audit import AuditReport, BundleFolds

__all__ = ["audit"]

SHOWN = 10
NOT_JUDGED, INTERRUPTED = 1, 130


def audit(
    manifest: Annotated[str, typer.Argument(help="Manifest file, or the name of a shipped one.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the audit; never that of the dataset.")],
    dataset_dir: DatasetDir = None,
    bundle: Annotated[
        str | None, typer.Option("--bundle", help="Bundle to predict with: a shipped one's name, or a folder.")
    ] = None,
    folds: Annotated[int, typer.Option("--folds", min=2, help="Trainings; each predicts the cases it leaves out.")] = 2,
    override: Annotated[
        list[str] | None, typer.Option("--override", help="Option of the bundle, as max_epochs=20; several times.")
    ] = None,
    probabilities: Annotated[
        Path | None, typer.Option("--probabilities", help="Instead: folder of NIfTI or .npz, nnU-Net's among them.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Whose labels: train, or all.")] = "train",
    spatial_dims: SpatialDims = None,
    classes: Annotated[str | None, typer.Option("--classes", help="Structures to audit, with commas between.")] = None,
    tolerance: Annotated[
        float | None, typer.Option("--tolerance", help="Boundary error in mm that is none. Default: one voxel.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the folds.")] = 0,
    form: LabelFormat = "nifti",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another audit in the folder.")] = False,
) -> None:
    """Find wrong labels: which, where, how, and which to look at first.

    Without --bundle and --probabilities, only the checks are made that need no model: unknown values, geometry, pieces,
    holes, gaps, volumes, places, sides. With them, every label is compared with a prediction by a model that did not
    train on it. --bundle trains such models, one per fold of patients, on the labels as they are.

    OUT/audit.html shows the findings with pictures, the most suspicious first; OUT/audit.csv lists them; OUT/errors and
    OUT/proposals hold error maps and mended labels on the original grid. The dataset is only read. The same command
    again goes on where it was interrupted, and judges anew what has changed.

    Exit code 0: every case was judged; 1: some could not be; 2: nothing can be audited.
    """
    from monai_noisylabel.audit import audit_dataset
    from monai_noisylabel.data.originals import OriginalChangedError

    errors = Console(stderr=True)
    try:
        how = _folds(bundle, folds, override or [], seed)
        with progress_bar("[progress.description]{task.description}", errors) as bar:
            task = bar.add_task("Checking files", total=None)
            report = audit_dataset(
                manifest,
                dataset_dir,
                out,
                probabilities=probabilities,
                folds=how,
                split=split,
                spatial_dims=spatial_dims,
                classes=None if classes is None else classes.split(","),
                tolerance=tolerance,
                form=form,
                overwrite=overwrite,
                progress=lambda what, done, total: bar.update(
                    task, description=escape(what[:100]), completed=done, total=total or None
                ),
            )
    except KeyboardInterrupt:
        errors.print("Interrupted; run the same command again to go on.")
        raise typer.Exit(INTERRUPTED) from None
    except (ValueError, OSError, OriginalChangedError, RuntimeError, ModuleNotFoundError) as error:
        raise unusable(error, errors) from None
    _print(report, out, errors)
    raise typer.Exit(NOT_JUDGED if report.failed else 0)


def _folds(bundle: str | None, folds: int, overrides: list[str], seed: int) -> BundleFolds | None:
    from monai_noisylabel.audit import BundleFolds

    if bundle is None:
        if overrides:
            raise ValueError("--override passes options on to a bundle; give --bundle too.")
        return None
    return BundleFolds(bundle, folds, tuple(overrides), seed)


def _print(report: AuditReport, out: Path, errors: Console) -> None:
    print_failures(report.failed, errors)
    shown = report.findings[:SHOWN]
    title = f"The {len(shown)} most suspicious of {len(report.findings)} findings in {len(report.cases)} cases"
    table = Table("case", "structure", "kind", "suspicion", "what", title=title, title_justify="left")
    for finding in shown:
        what = (finding.case, finding.structure, finding.type, f"{finding.suspicion:.3f}", finding.message)
        table.add_row(*map(escape, what))
    if shown:
        console().print(table)
    where = f"Open {report.page}; the list is {out / 'audit.csv'}"
    proposals = f", proposed labels are in {out / 'proposals'}" if (out / "proposals").is_dir() else ""
    console().print(f"{len(report.findings)} findings. {where}{proposals}.", soft_wrap=True, highlight=False)
