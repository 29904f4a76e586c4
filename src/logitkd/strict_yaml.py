"""YAML (and so JSON) that a person wrote, read strictly: bounded, and no key twice. All of it is read here.

YAML itself lets the last of two equal keys win without a word; an alias in an alias can stand for more values than memory
holds (a "billion laughs"), and thousands of brackets exhaust Python's stack. Nobody writes such a recipe on purpose.
"""

from __future__ import annotations

import reprlib
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml

__all__ = ["Refused", "compose", "load"]

MAX_DEPTH = 20  # lists and sections inside one another; a recipe has five
MAX_REPEATED = 10_000  # values that all the aliases of a document may stand for; without aliases any size is read


class Refused(yaml.YAMLError):
    """Valid YAML that is not read."""


def compose(text: str) -> yaml.Node | None:
    """Return the document as it is written, nothing read as a number or a truth value; ``None`` where it is empty.

    Raises:
        yaml.YAMLError: it is no YAML; a ``Refused`` where it is nested too deeply, or its aliases stand for too much. Each
            says in one line what and where.
    """
    with _in_one_line():
        return _Loader(text).get_single_node()


def load(text: str, *, names: bool = False) -> Any:
    """Return what the document says; ``None`` where it is empty.

    Args:
        text: YAML.
        names: whether its keys are names: text as written, though one is called `no`, `null` or `1.0`. Numbers beside them
            may be written as JSON has them: 1e39 is text to YAML, which asks for 1.0e+39.

    Raises:
        yaml.YAMLError: as of :func:`compose`; a ``Refused`` also where a key is given twice or is no text, or there is a
            merge key.

    >>> load("{epochs: 3, seed: 1}")
    {'epochs': 3, 'seed': 1}
    >>> load("{no: 1e3, 1.0: 2}", names=True)
    {'no': 1000.0, '1.0': 2.0}
    """
    with _in_one_line():
        loader = _Loader(text)
        node = loader.get_single_node()
        if names and isinstance(node, yaml.MappingNode):
            _read_as_names(node)
        loader.check_keys(node)
        return None if node is None else loader.construct_document(node)


def _read_as_names(node: yaml.MappingNode) -> None:
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            key.tag = "tag:yaml.org,2002:str"
        if isinstance(value, yaml.ScalarNode) and value.style is None and _is_number(value.value):
            value.tag = "tag:yaml.org,2002:float"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except Refused:
        raise
    except yaml.MarkedYAMLError as error:
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise yaml.YAMLError(what + _place(error.problem_mark or error.context_mark)) from error
    except Exception as error:  # a value that is none of its kind fails in any way: 2020-13-45, `!!bool maybe`
        what = "" if isinstance(error, (ValueError, yaml.YAMLError)) else f"{type(error).__name__}: "
        raise yaml.YAMLError(what + " ".join(str(error).split())) from error


def _place(mark: yaml.Mark | None) -> str:
    return "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        # How many values each list or section that is being composed holds, itself among them, and how deep they go.
        self._open: list[list[int]] = []
        self._anchored: dict[str, list[int]] = {}  # the same of what aliases may name
        self._repeated = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            node = super().compose_node(parent, index)  # raises where nothing has that name
            if event.anchor not in self._anchored:
                raise Refused(f"the alias `*{event.anchor}` is inside what it names" + _place(mark))
            extent = self._anchored[event.anchor]
            self._check_depth(extent[1], mark)
            self._repeated += extent[0]
            if self._repeated > MAX_REPEATED:
                problem = f"aliases (`*name`) must stand for at most {MAX_REPEATED:,} values in all: write them out"
                raise Refused(problem + _place(mark))
        elif isinstance(event, yaml.CollectionStartEvent):
            extent = [1, 1]
            self._check_depth(1, mark)
            self._open.append(extent)
            node = super().compose_node(parent, index)
            self._open.pop()
        else:
            extent = [1, 0]
            node = super().compose_node(parent, index)
        if not isinstance(event, yaml.AliasEvent) and event.anchor is not None:
            self._anchored[event.anchor] = extent
        if self._open:
            around = self._open[-1]
            around[0] += extent[0]
            around[1] = max(around[1], extent[1] + 1)
        return node

    def _check_depth(self, more: int, mark: yaml.Mark) -> None:
        if len(self._open) + more > MAX_DEPTH:
            problem = f"lists and sections must be at most {MAX_DEPTH} deep, this goes deeper"
            raise Refused(problem + _place(mark))

    def check_keys(self, document: yaml.Node | None) -> None:
        """Refuse keys that the safe loader would let win over one another, or not take at all."""
        waiting, seen = [document], set()
        while waiting:
            node = waiting.pop()
            if id(node) in seen or not isinstance(node, yaml.CollectionNode):
                continue
            seen.add(id(node))
            if isinstance(node, yaml.MappingNode):
                self._check_keys(node)
                waiting += [value for _, value in reversed(node.value)]
            else:
                waiting += reversed(node.value)

    def _check_keys(self, node: yaml.MappingNode) -> None:
        given: set[Hashable] = set()
        for key_node, _ in node.value:
            mark = key_node.start_mark
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise Refused("merge keys (`<<`) are not supported: write the keys out" + _place(mark))
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise Refused(f"a key must be text, got {reprlib.repr(key)}" + _place(mark))
            if key in given:
                raise Refused(f"the key `{str(key)[:80]}` is given twice" + _place(mark))
            given.add(key)
