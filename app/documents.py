"""Reading what people write: a pipeline file as YAML or JSON text, into plain JSON data.

YAML is narrowed to what JSON can say: only true and false are booleans (the key ``on`` stays text), dates stay text,
aliases are refused (a few bytes of them stand for gigabytes).
"""

import json
import re
from typing import Any

import yaml


class Unreadable(ValueError):
    """The text is neither YAML nor JSON as wanted here; the message says where and why."""


class _PlainLoader(yaml.SafeLoader):
    """YAML's core as JSON has it."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # PyYAML's stubs leave it out
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are not allowed; write it out", problem_mark=mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be text", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_PlainLoader.yaml_implicit_resolvers = {
    first: [
        (tag, regexp)
        for tag, regexp in resolvers
        if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"(?:true|false|True|False|TRUE|FALSE)$"), list("tTfF")
)


def read_yaml(text: str) -> Any:
    """Return the one document in ``text``; raises :class:`Unreadable` with line and column."""
    try:
        loader = _PlainLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise Unreadable(f"{where}{error.problem or error.context or 'not YAML'}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise Unreadable(str(error).splitlines()[0] if str(error) else "nested too deeply") from None


def marks_of(text: str) -> dict[str, str]:
    """Return where every place (``spec.steps[2].after``) begins in a document that ``read_yaml`` can read: ``line 7, column 9``."""
    found: dict[str, str] = {}
    loader = _PlainLoader(text)
    try:
        todo: list[tuple[str, Any, Any]] = [("", root, root) for root in [loader.get_single_node()] if root]
    finally:
        loader.dispose()
    while todo:
        path, begin, node = todo.pop()
        found[path] = f"line {begin.start_mark.line + 1}, column {begin.start_mark.column + 1}"
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                todo.append((f"{path}.{key.value}" if path else key.value, key, value))
        elif isinstance(node, yaml.SequenceNode):
            todo.extend((f"{path}[{index}]", item, item) for index, item in enumerate(node.value))
    return found


def read_json(text: str | bytes) -> Any:
    """Return the JSON value in ``text``; raises :class:`Unreadable`."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not JSON: {error}") from None


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON number")
