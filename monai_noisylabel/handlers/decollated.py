"""The samples of an engine's iteration, one by one."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine

__all__ = ["decollated"]


def decollated(engine: Engine) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Item and output of every sample, after MONAI's engine has taken the batch apart.

    Raises:
        ValueError: if there are not as many outputs as items.
    """
    items: Any = engine.state.batch
    outputs: Any = engine.state.output
    return list(zip(items, outputs, strict=True))
