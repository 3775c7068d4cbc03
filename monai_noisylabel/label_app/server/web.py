"""MONAI Label's web application, which also says who is signed in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from monailabel.app import app
from monailabel.config import settings
from monailabel.endpoints.user.auth import from_token

from monai_noisylabel.label_app.server.signed_in import SIGNED_IN

__all__ = ["SignedInUser", "app"]

Scope = MutableMapping[str, Any]
Web = Callable[[Scope, Callable[..., Awaitable[Any]], Callable[..., Awaitable[Any]]], Awaitable[None]]


class SignedInUser:
    """Notes the user of a request's token, which MONAI Label checks and does not pass on.

    Args:
        app: the web application behind it.
    """

    def __init__(self, app: Web) -> None:
        self.app = app

    async def __call__(
        self, scope: Scope, receive: Callable[..., Awaitable[Any]], send: Callable[..., Awaitable[Any]]
    ) -> None:
        """Answer a request."""
        token = dict(scope.get("headers") or []).get(b"authorization", b"").decode("latin-1").partition(" ")[2]
        if settings.MONAI_LABEL_AUTH_ENABLE and token:
            SIGNED_IN.set(_name(token))
        await self.app(scope, receive, send)


def _name(token: str) -> str:
    """User of a token; empty if it is not valid, which MONAI Label then says itself."""
    try:
        return str(from_token(token).username)
    except Exception:  # of many kinds, from an old token to an unreachable realm
        return ""


app.add_middleware(SignedInUser)
