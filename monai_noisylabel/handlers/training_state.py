"""Saving a training after every epoch, and going on from there."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, Protocol

import torch
from ignite.engine import Engine, Events
from monai.engines import Trainer

from monai_noisylabel.data.label_store import LabelStore
from monai_noisylabel.handlers.atomic import save_atomically
from monai_noisylabel.handlers.processes import is_main, wait_for_all

__all__ = ["HasState", "RunSettingsError", "TrainingState"]

logger = logging.getLogger(__name__)


class HasState(Protocol):
    """Anything with a state to save: network, optimizer, scheduler, another handler."""

    def state_dict(self) -> Any:
        """The state to save."""

    def load_state_dict(self, state: Any) -> Any:
        """Go on from a saved state."""


class RunSettingsError(ValueError):
    """The folder holds a run with other settings."""


class TrainingState:
    """Writes a checkpoint after every epoch and, if there is one, starts from it.

    Rerunning the same command continues an interrupted run; with random numbers seeded per epoch
    (:class:`~monai_noisylabel.handlers.EpochStart`) its result is the one of the uninterrupted run. The checkpoint
    names the label store's round: rounds that were committed later, by an epoch that did not finish, are dropped.
    Ctrl-C ends the run with a message and exit status 130.

    List it behind every handler that acts at the end of an epoch and before those that only log.

    Args:
        path: the checkpoint file.
        objects: what to save and restore, by name.
        store: the run's label store, if it has one.
        settings: what must be the same for a run to be continued, such as manifest, noise and seed.
        resume: False ignores an existing checkpoint, empties the store and starts over.

    Raises:
        RunSettingsError: at the start, if the checkpoint was written by a run with other settings.
    """

    def __init__(
        self,
        path: str | Path,
        objects: Mapping[str, HasState],
        store: LabelStore | None = None,
        settings: Mapping[str, Any] | None = None,
        resume: bool = True,
    ) -> None:
        self.path = Path(path)
        self.objects = objects
        self.store = store
        self.settings = {name: str(value) for name, value in (settings or {}).items()}
        self.resume = resume
        self._kept = 0

    def attach(self, engine: Engine) -> None:
        """Restore when ``engine`` starts, save after each of its epochs."""
        engine.add_event_handler(Events.STARTED, self.restore)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self.interrupted)

    def restore(self, engine: Trainer) -> None:
        """Go on from the checkpoint, if there is one."""
        state: dict[str, Any] = {"epoch": 0, "iteration": 0, "round": 0}
        if not self.resume and is_main():
            self.path.unlink(missing_ok=True)  # it would name rounds that are dropped below
        if self.resume and self.path.exists():
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            self._refuse_other_settings(state["settings"])
            for name, part in self.objects.items():
                part.load_state_dict(state["objects"][name])
            if engine.scaler is not None and state["scaler"]:
                engine.scaler.load_state_dict(state["scaler"])
            engine.state.epoch, engine.state.iteration = state["epoch"], state["iteration"]
            logger.info(f"Continuing after epoch {state['epoch']} of {engine.state.max_epochs} ({self.path}).")
        self._kept = state["epoch"]
        if self.store is not None and is_main():
            self.store.rewind(state["round"])
            self.store.verify()
        wait_for_all()

    def save(self, engine: Trainer) -> None:
        """Write the checkpoint of the epoch that has just ended."""
        if not is_main():
            return
        state = {
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "round": 0 if self.store is None else self.store.round,
            "settings": self.settings,
            "objects": {name: part.state_dict() for name, part in self.objects.items()},
            "scaler": engine.scaler.state_dict() if engine.scaler is not None else {},
        }
        save_atomically(state, self.path)
        self._kept = engine.state.epoch

    def interrupted(self, engine: Engine, error: BaseException) -> NoReturn:
        """Turn Ctrl-C into a clean end; pass every other error on."""
        if not isinstance(error, KeyboardInterrupt):
            raise error
        done = f"Its first {self._kept} epochs are kept" if self._kept else "Nothing is kept"
        if is_main():
            print(
                f"\nInterrupted in epoch {engine.state.epoch}. {done}; run the same command again to go on.", flush=True
            )
        raise SystemExit(130)

    def _refuse_other_settings(self, found: Mapping[str, str]) -> None:
        names = sorted({*found, *self.settings})
        changed = [
            f"{name}: {found.get(name, 'not set')} there, {self.settings.get(name, 'not set')} now"
            for name in names
            if found.get(name) != self.settings.get(name)
        ]
        if changed:
            raise RunSettingsError(
                f"{self.path} belongs to a run with other settings ({'; '.join(changed)}). Give this run a folder of "
                "its own with --output_dir and --ckpt_dir, or start over in this one with --resume False."
            )
