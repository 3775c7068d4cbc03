"""Console command ``noisylabel study``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from monai_noisylabel.cli_console import console as make_console
from monai_noisylabel.cli_console import unusable

if TYPE_CHECKING:
    from monai_noisylabel.study.cells import Cell
    from monai_noisylabel.study.process import Outcome
    from monai_noisylabel.study.runner import Tally

__all__ = ["study_app"]

FAILED, INTERRUPTED = 1, 130


class _RunByDefault(TyperGroup):
    """``study STUDY`` means ``study run STUDY``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


study_app = typer.Typer(
    help="Methods x datasets x noise x seeds: `noisylabel study STUDY --out O`.",
    no_args_is_help=True,
    cls=_RunByDefault,
)


@study_app.command("run")
def run(
    study: Annotated[str, typer.Argument(help="Study file (YAML), or the name of one that comes with the library.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for this study; the same one goes on with it.")],
    dataset_dir: Annotated[
        list[str] | None,
        typer.Option("--dataset_dir", "--dataset-dir", help="NAME=DIR, once per dataset of the study."),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option("--processes", min=1, help="Runs at a time; by default as many as cores or GPUs allow."),
    ] = None,
    gpus: Annotated[
        str, typer.Option("--gpus", help="GPUs, with commas between: a run each; with --scheduler: any word.")
    ] = "",
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Address of a Dask scheduler, as tcp://host:8786.")
    ] = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option("--tracking_uri", "--tracking-uri", help="MLflow; by default SQLite in --out; none: without."),
    ] = None,
) -> None:
    """Run what a study has not run yet, and report.

    Exit code 0: every run finished; 1: some failed, which the same command tries again; 2: the study cannot run.
    """
    from monai_noisylabel.study.runner import Executor, run_study
    from monai_noisylabel.study.spec import load_study

    console, errors = make_console(), Console(stderr=True)
    slots = tuple(slot for slot in gpus.split(",") if slot)
    executor = Executor(processes, slots, scheduler, tracking_uri)
    try:
        chosen = load_study(study, _folders(dataset_dir or []))
        tally = run_study(chosen, out, executor, lambda *event: _tell(console, *event))
        console.print(_summary(tally), soft_wrap=True, highlight=False)
        if tally.kept or tally.finished:
            _report(out, console)
    except KeyboardInterrupt:
        errors.print("Interrupted. What has finished is kept; the same command goes on.", highlight=False)
        raise typer.Exit(INTERRUPTED) from None
    except (ValueError, OSError, ImportError) as error:
        raise unusable(error, errors) from None
    raise typer.Exit(FAILED if tally.failed else 0)


@study_app.command("report")
def report(out: Annotated[Path, typer.Argument(help="Folder of a study.")]) -> None:
    """Write the tables and pictures of a study anew, from the records of its runs."""
    errors = Console(stderr=True)
    try:
        _report(out, make_console())
    except (ValueError, OSError) as error:
        raise unusable(error, errors) from None


@study_app.command("list")
def list_studies() -> None:
    """List the studies that come with the library."""
    from monai_noisylabel.study.spec import load_study, presets

    table = Table("name", "datasets", "noise", "methods", "seeds", "what it asks", title="Studies")
    table.columns[0].no_wrap = True
    for name in presets():
        study = load_study(name)
        parts = (name, ", ".join(study.datasets), ", ".join(study.noise), ", ".join(study.methods))
        table.add_row(*map(escape, parts), str(len(study.seeds)), escape(study.description))
    make_console().print(table)


def _report(out: Path, console: Console) -> None:
    from monai_noisylabel.study.page import write_report
    from monai_noisylabel.study.runner import read_study

    written = write_report(read_study(out), out)
    console.print(f"Report: {written[0]}, {written[1]}", soft_wrap=True, highlight=False)


def _folders(given: list[str]) -> dict[str, str]:
    pairs = [entry.partition("=") for entry in given]
    wrong = [name for name, sign, folder in pairs if not sign or not folder]
    if wrong:
        raise ValueError(f"--dataset_dir {wrong[0]}: write NAME=DIR, with the name that the study gives the dataset.")
    return {name: folder for name, _, folder in pairs}


def _tell(console: Console, cell: Cell, outcome: Outcome, tally: Tally) -> None:
    done = len(tally.kept) + len(tally.finished) + len(tally.failed)
    console.print(f"[{done}/{tally.total}] {cell.name}: {outcome.state}", markup=False, highlight=False)
    if outcome.state == "failed":
        console.print(outcome.message, markup=False, highlight=False, soft_wrap=True)


def _summary(tally: Tally) -> str:
    counts = f"{len(tally.finished)} finished, {len(tally.kept)} kept, {len(tally.failed)} failed of {tally.total}."
    return counts + (f" Failed: {', '.join(tally.failed)}." if tally.failed else "")
