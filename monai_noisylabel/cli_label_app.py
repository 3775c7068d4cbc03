"""Console command ``noisylabel label-app``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from monai_noisylabel.cli_console import DatasetDir, SpatialDims, console, print_failures, progress_bar, unusable

if TYPE_CHECKING:
    from monai_noisylabel.label_app import Workspace

__all__ = ["label_app"]

NOT_EXPORTED = 1

label_app = typer.Typer(help="Review of labels with MONAI Label, in 3D Slicer and other viewers.", no_args_is_help=True)

Studies = Annotated[Path, typer.Option("--studies", help="Folder of the review; never that of the dataset.")]
Bundles = Annotated[
    list[str] | None,
    typer.Option("--bundle", help="Bundle to serve, by name or folder; several times. Default: all shipped ones."),
]
Weights = Annotated[
    list[str] | None,
    typer.Option("--weights", help="NAME=FILE, a trained model.pt to serve as a bundle's; several times."),
]


@label_app.command("start")
def start(
    studies: Studies,
    manifest: Annotated[
        str | None, typer.Argument(help="Manifest file, or the name of a shipped one; not needed to go on.")
    ] = None,
    dataset_dir: DatasetDir = None,
    audit: Annotated[
        Path | None, typer.Option("--audit", help="Folder of an audit of this dataset: its order and proposals.")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Without --audit: whose labels, train or all.")] = "train",
    spatial_dims: SpatialDims = None,
    classes: Annotated[str | None, typer.Option("--classes", help="Structures, with commas between.")] = None,
    bundle: Bundles = None,
    weights: Weights = None,
    host: Annotated[str, typer.Option("--host", help="Address to serve; 0.0.0.0 for the whole network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 8000,
) -> None:
    """Serve a review, after copying what it needs into its folder; the same folder goes on with it.

    The viewer gets the most suspicious label first, with the proposal of the audit. What is submitted is a decision,
    and written down. The dataset is only read.
    """
    from monai_noisylabel.label_app.launch import make_app, server_command, server_environment

    errors = Console(stderr=True)
    try:
        command = server_command(studies, host, port)
        _workspace(studies, manifest, dataset_dir, audit, split, spatial_dims, classes, errors)
        make_app(studies, bundle or (), _weights(weights or []))
        environment = server_environment(studies)
    except (ValueError, OSError, ImportError) as error:
        raise unusable(error, errors) from None
    console().print(f"Serving {studies} at http://{host}:{port}; Ctrl-C ends it.", soft_wrap=True, highlight=False)
    os.execve(command[0], command, environment)


@label_app.command("path")
def path(studies: Studies, bundle: Bundles = None, weights: Weights = None) -> None:
    """Make the app of a review anew and print its folder, to start MONAI Label with it by other means."""
    from monai_noisylabel.label_app import open_workspace
    from monai_noisylabel.label_app.launch import make_app

    try:
        open_workspace(studies)
        app = make_app(studies, bundle or (), _weights(weights or []))
    except (ValueError, OSError) as error:
        raise unusable(error, Console(stderr=True)) from None
    typer.echo(app.resolve())


@label_app.command("status")
def status(studies: Studies) -> None:
    """Say how far a review is."""
    from monai_noisylabel.label_app import Review, open_workspace

    try:
        found = Review(open_workspace(studies)).progress()
    except (ValueError, OSError) as error:
        raise unusable(error, Console(stderr=True)) from None
    decisions = "".join(f", {count} {name}" for name, count in sorted(found.decisions.items()))
    left = f"{found.left_with_findings} with findings are left"
    console().print(f"{found.decided} of {found.cases} cases decided{decisions}; {left}.", highlight=False)


@label_app.command("export")
def export(
    studies: Studies,
    out: Annotated[Path, typer.Option("--out", help="Folder of the new dataset.")],
) -> None:
    """Write a dataset with the reviewed labels, and the given ones of the other cases, to train on.

    Exit code 0: every case was written; 1: some could not be; 2: nothing can be exported.
    """
    from monai_noisylabel.data.originals import OriginalChangedError
    from monai_noisylabel.label_app import export_reviewed

    errors = Console(stderr=True)
    try:
        report = export_reviewed(studies, out)
    except (ValueError, OSError, OriginalChangedError) as error:
        raise unusable(error, errors) from None
    print_failures(report.failed, errors)
    counts = f"{len(report.reviewed)} reviewed labels and {len(report.given)} given ones in {out}"
    console().print(f"{counts}, {len(report.failed)} failed.", soft_wrap=True, highlight=False)
    training = f"--manifest {out / 'manifest.json'} --dataset_dir {out} --noise none"
    console().print(f"To train a bundle on it: {training}", soft_wrap=True, highlight=False)
    raise typer.Exit(NOT_EXPORTED if report.failed else 0)


def _workspace(
    studies: Path,
    manifest: str | None,
    dataset_dir: Path | None,
    audit: Path | None,
    split: str,
    spatial_dims: int | None,
    classes: str | None,
    errors: Console,
) -> Workspace:
    """Open the folder of a review, or make it."""
    from monai_noisylabel.label_app import open_workspace, prepare_workspace

    if manifest is None:
        return open_workspace(studies)
    with progress_bar("Copying images and labels", errors) as bar:
        task = bar.add_task("copy", total=None)
        workspace = prepare_workspace(
            manifest,
            dataset_dir,
            studies,
            audit=audit,
            split=split,
            spatial_dims=spatial_dims,
            classes=None if classes is None else classes.split(","),
            progress=lambda what, done, total: bar.update(task, completed=done, total=total),
        )
    print_failures(workspace.record["left_out"], errors)
    return workspace


def _weights(given: list[str]) -> dict[str, Path]:
    pairs = [entry.partition("=") for entry in given]
    for (name, sign, file), entry in zip(pairs, given, strict=True):
        if not name or not sign or not Path(file).is_file():
            raise ValueError(f"--weights {entry}: write NAME=FILE, with the name of a bundle and its model.pt.")
    return {name: Path(file) for name, _, file in pairs}
