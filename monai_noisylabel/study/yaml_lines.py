"""YAML with line numbers: what is written where, so that an error can say so."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from typing import Any

import yaml

__all__ = ["line_of", "read_yaml"]


class _Loader(yaml.SafeLoader):
    """The safe loader; it refuses a key that is there twice, 1e-3 is a number, and yes, no, on and off are words."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise ValueError(f"line {line}: {key.value!r} is there already, in line {seen[key.value]}")
            seen[str(key.value)] = line
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"(?:[Tt]rue|[Ff]alse)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_yaml(text: str) -> Any:
    """Content of a YAML text.

    Raises:
        ValueError: if it is none, or a key is there twice; the message begins with the line.

    Example:
        >>> read_yaml("rate: 1e-3\\noff: True")
        {'rate': 0.001, 'off': True}
        >>> read_yaml("a: 1\\na: 2")
        Traceback (most recent call last):
        ValueError: line 2: 'a' is there already, in line 1
    """
    try:
        return yaml.load(text, Loader=_Loader)  # a safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{where}{error.problem or error.context}") from None


def line_of(text: str, path: Sequence[str | int]) -> int:
    """Line, from 1, of the entry that a path of keys and indices leads to, as far as it can be followed.

    Example:
        >>> line_of("a: 1\\nb:\\n  - c\\n  - d: 5\\n", ["b", 1, "d"])
        4
    """
    node = yaml.compose(text, Loader=_Loader)
    line = 1
    for step in path:
        if isinstance(node, yaml.MappingNode):
            entries = {key.value: (key.start_mark.line + 1, value) for key, value in node.value}
            found = entries.get(str(step))
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            found = (node.value[step].start_mark.line + 1, node.value[step])
        else:
            found = None
        if found is None:
            break
        line, node = found
    return line
