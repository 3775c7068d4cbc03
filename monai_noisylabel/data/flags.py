"""A guard for options that are on or off."""

from __future__ import annotations

__all__ = ["check_flags"]


def check_flags(**flags: object) -> None:
    """Refuse options that should be True or False and are something else.

    On a command line ``--resume false`` is the word "false", which counts as true wherever a truth value is asked for.

    Args:
        flags: the options by name.

    Raises:
        TypeError: if a value is not a bool; the message names the option and what to write.

    Example:
        >>> check_flags(resume=False)
        >>> check_flags(resume="false")
        Traceback (most recent call last):
        TypeError: resume must be True or False, got 'false': write --resume False.
    """
    for name, value in flags.items():
        if not isinstance(value, bool):
            wanted = str(value).lower() in ("true", "yes", "1", "on")
            raise TypeError(f"{name} must be True or False, got {value!r}: write --{name} {wanted}.")
