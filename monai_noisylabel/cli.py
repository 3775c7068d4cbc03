"""Console command ``noisylabel``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from monai_noisylabel.cli_audit import audit
from monai_noisylabel.cli_console import DatasetDir, LabelFormat, SpatialDims, print_failures, progress_bar, unusable
from monai_noisylabel.cli_console import console as make_console
from monai_noisylabel.cli_label_app import label_app
from monai_noisylabel.cli_study import study_app

if TYPE_CHECKING:
    from monai_noisylabel.data.check import Report
    from monai_noisylabel.simulate import SimulationReport

__all__ = ["app"]

app = typer.Typer(
    name="noisylabel", help="Segmentation from unreliable labels.", no_args_is_help=True, add_completion=False
)
data_app = typer.Typer(help="Datasets and their manifests.", no_args_is_help=True)
app.add_typer(data_app, name="data")
labels_app = typer.Typer(help="Labels that a training corrected.", no_args_is_help=True)
app.add_typer(labels_app, name="labels")
app.command("audit")(audit)
app.add_typer(label_app, name="label-app")
app.add_typer(study_app, name="study")

UNSAFE = 1


@app.callback()
def _main() -> None:
    """Segmentation from unreliable labels."""


@data_app.command("list")
def list_manifests() -> None:
    """List the manifests that come with the library."""
    from monai_noisylabel.data.manifest import load_manifest, shipped_manifests

    table = Table("name", "modality", "dims", "structures", "where to obtain it", title="Shipped manifests")
    table.columns[0].no_wrap = True
    for name in shipped_manifests():
        manifest = load_manifest(name)
        row = (
            name,
            manifest.modality,
            f"{manifest.spatial_dims}D",
            ", ".join(manifest.classes),
            manifest.source,
        )
        table.add_row(*map(escape, row))
    make_console().print(table)


@data_app.command("check")
def check(
    manifest: Annotated[str, typer.Argument(help="Manifest file, or the name of a shipped one.")],
    dataset_dir: Annotated[
        Path | None,
        typer.Option("--dataset_dir", "--dataset-dir", help="Folder of the dataset; phantom_hcc needs none."),
    ] = None,
    spatial_dims: Annotated[
        int | None,
        typer.Option("--spatial_dims", "--spatial-dims", min=2, max=3, help="Dimensions of the run."),
    ] = None,
    max_problems: Annotated[
        int, typer.Option("--max_problems", "--max-problems", min=0, help="Rows of the table; 0 for all.")
    ] = 50,
) -> None:
    """Read every case of a dataset in full and say whether it can be trained on.

    Exit code 0: safe to train on; 1: not safe; 2: the manifest or the folder cannot be used.
    """
    console, errors = make_console(), Console(stderr=True)
    try:
        report = _checked(manifest, dataset_dir, spatial_dims, errors)
    except (ValueError, OSError) as error:
        raise unusable(error, errors) from None
    if report.problems:
        console.print(_table(report, max_problems))
    style = "green" if report.safe else "bold red"
    console.print(f"{report.manifest.name}: [{style}]{escape(report.verdict)}[/]", soft_wrap=True, highlight=False)
    raise typer.Exit(0 if report.safe else UNSAFE)


@labels_app.command("export")
def export(
    store: Annotated[Path, typer.Argument(help="Label store of a run: <ckpt_dir>/label_store.")],
    manifest: Annotated[str, typer.Argument(help="Manifest of the run.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the labels; never that of the dataset.")],
    dataset_dir: DatasetDir = None,
    spatial_dims: SpatialDims = None,
    classes: Annotated[str | None, typer.Option("--classes", help="As in the run, with commas between.")] = None,
    round: Annotated[int | None, typer.Option("--round", help="As they were after this round.")] = None,
    form: LabelFormat = "nifti",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
) -> None:
    """Write corrected labels on the grid of the given ones, into a folder of their own.

    Exit code 0: every corrected label was written; 1: some could not be; 2: nothing can be exported.
    """
    from monai_noisylabel.data import LabelStore, load_dataset
    from monai_noisylabel.data.seg_label import dicom_rules

    console, errors = make_console(), Console(stderr=True)
    try:
        if not (store / "rounds").is_dir():
            raise FileNotFoundError(f"{store} is no label store: it has no rounds. It lies in a run's --ckpt_dir.")
        chosen = None if classes is None else classes.split(",")
        spec = load_dataset(manifest, dataset_dir, spatial_dims=spatial_dims, classes=chosen)
        report = LabelStore(store, spec.dataset_dir).export(
            spec.train,
            out,
            class_values=[spec.manifest.values(name) for name in spec.classes],
            classes=spec.classes,
            coloured=spec.manifest.coloured,
            dicom=dicom_rules(spec.manifest),
            form=form,
            round=round,
            overwrite=overwrite,
        )
    except (ValueError, OSError, ModuleNotFoundError) as error:
        raise unusable(error, errors) from None
    print_failures(report.failed, errors)
    counts = f"{len(report.written)} written to {out}, {len(report.not_corrected)} never corrected"
    console.print(f"{counts}, {len(report.failed)} failed.", soft_wrap=True, highlight=False)
    raise typer.Exit(1 if report.failed else 0)


@app.command("simulate")
def simulate(
    manifest: Annotated[str, typer.Argument(help="Manifest file, or the name of a shipped one.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the noisy labels; never that of the dataset.")],
    recipe: Annotated[Path, typer.Option("--recipe", help='JSON file, as {"model": "boundary", "alpha": 0.7}.')],
    dataset_dir: DatasetDir = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the noise.")] = 0,
    split: Annotated[str, typer.Option("--split", help="Whose labels: train, or all.")] = "train",
    spatial_dims: SpatialDims = None,
    classes: Annotated[str | None, typer.Option("--classes", help="As in the training, with commas between.")] = None,
    with_images: Annotated[
        bool, typer.Option("--with_images", "--with-images", help="Copy images and other labels, to train on it.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier simulation.")] = False,
) -> None:
    """Write the labels of a dataset with simulated noise, and measure it.

    Exit code 0: every label was written; 1: some could not be; 2: nothing can be simulated.
    """
    from monai_noisylabel.simulate import simulate_dataset

    console, errors = make_console(), Console(stderr=True)
    try:
        content = _recipe(recipe)
        with progress_bar("Simulating", errors) as bar:
            task = bar.add_task("simulate", total=None)
            report = simulate_dataset(
                manifest,
                dataset_dir,
                content,
                out,
                seed=seed,
                split=split,
                spatial_dims=spatial_dims,
                classes=None if classes is None else classes.split(","),
                with_images=with_images,
                overwrite=overwrite,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    except (ValueError, TypeError, OSError) as error:
        raise unusable(error, errors) from None
    print_failures(report.failed, errors)
    console.print(_noise_table(report))
    counts = f"{len(report.written)} written to {out}, {len(report.kept)} kept, {len(report.failed)} failed"
    copied = f", {report.copied} images and labels copied" if with_images else ""
    console.print(f"{counts}{copied}. Look at {out / 'contact_sheet.png'}.", soft_wrap=True, highlight=False)
    if with_images:
        training = f"--manifest {out / 'manifest.json'} --dataset_dir {out} --noise none"
        console.print(f"To train a bundle on it: {training}", soft_wrap=True, highlight=False)
    raise typer.Exit(1 if report.failed else 0)


def _recipe(path: Path) -> dict[str, Any]:
    """Content of a recipe file."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"Recipe {path} is no JSON file: {error}") from None
    return content


def _noise_table(report: SimulationReport) -> Table:
    """Table of the noise that was measured."""
    summary = report.summary
    title = f"Measured noise: {summary['noisy_cases']} of {summary['cases']} cases"
    table = Table("structure", title=title, title_justify="left")
    for name in ("cases", "changed", "vanished", "Dice", "Dice of changed", "volume ratio", "surface distance"):
        table.add_column(name, justify="right")
    keys = ("cases", "changed", "vanished", "dice", "dice_changed", "volume_ratio", "surface_distance")
    for name, measured in summary["classes"].items():
        table.add_row(escape(name), *(_shown(measured[key]) for key in keys))
    return table


def _shown(value: float | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.3f}"


def _checked(manifest: str, dataset_dir: Path | None, spatial_dims: int | None, console: Console) -> Report:
    """Run the check behind a progress bar."""
    from monai_noisylabel.data.check import check_dataset
    from monai_noisylabel.data.dataset_spec import dataset_folder
    from monai_noisylabel.data.manifest import load_manifest

    loaded = load_manifest(manifest)
    with progress_bar("Reading files", console) as bar:
        task = bar.add_task("read", total=None)
        folder = dataset_folder(loaded, dataset_dir)
        return check_dataset(
            loaded,
            folder,
            lambda done, total: bar.update(task, completed=done, total=total),
            spatial_dims=spatial_dims,
        )


def _table(report: Report, rows: int) -> Table:
    """Table of the problems, the fatal ones first."""
    problems = sorted(report.problems, key=lambda problem: not problem.fatal)
    shown = problems[:rows] if rows else problems
    title = f"Problems in {escape(str(report.dataset_dir))}"
    table = Table("case", "problem", "file", "what was found", "the case is", title=title)
    for column in table.columns[:3]:
        column.overflow = "fold"
    for problem in shown:
        row = (
            problem.case,
            problem.kind,
            problem.file,
            problem.message,
            "left out" if problem.fatal else "used",
        )
        table.add_row(*map(escape, row))
    if len(shown) < len(problems):
        table.caption = f"{len(problems) - len(shown)} more; --max_problems 0 shows all"
    return table


if __name__ == "__main__":
    app()
