"""Who is answerable for a request."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

__all__ = ["SIGNED_IN", "user_of"]

SIGNED_IN: ContextVar[str] = ContextVar("SIGNED_IN", default="")
"""Name of the user whose request is being answered; empty where the server asks nobody to sign in."""


def user_of(request: Mapping[str, Any]) -> str:
    """Who a request is from: who has signed in, or else who it says it is from.

    Args:
        request: its parameters. 3D Slicer sends as ``client_id`` what its settings say.
    """
    return SIGNED_IN.get() or str(request.get("user") or request.get("client_id") or "unknown")
