"""A process that must not outlive who started it."""

from __future__ import annotations

import os
import sys
import threading

__all__ = ["end_with_parent"]

ORPHANED = 70


def end_with_parent() -> None:
    """End this process at once when its standard input, a pipe that its parent holds and never writes to, is closed.

    A runner that is killed closes it, whatever killed it. Two processes then never train in one folder: the one that
    is left behind ends before another is sent there.
    """
    threading.Thread(target=_watch, daemon=True, name="end with parent").start()


def _watch() -> None:
    descriptor = sys.stdin.fileno()
    while os.read(descriptor, 1):
        pass
    os._exit(ORPHANED)
