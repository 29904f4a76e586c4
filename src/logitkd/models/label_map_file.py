"""The file that says which class of a teacher is which class of the data."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import yaml

from logitkd import strict_yaml
from logitkd.checks import listed, suggest

__all__ = ["read_label_map"]

FORMATS = (".yaml", ".yml", ".json", ".csv")
_NULL = "tag:yaml.org,2002:null"


def read_label_map(
    path: str | Path, teacher_classes: Sequence[str] | int, student_classes: Sequence[str]
) -> tuple[int | None, ...]:
    """Return for each teacher class the index of its student class, ``None`` where it has none.

    The file maps ``teacher class -> student class``: a YAML or JSON mapping, or a CSV file of two columns (a first line
    ``teacher,student`` is left out). Several teacher classes may have one student class; those that are left out of the
    file, or whose student class is empty (``null``), have none. A class is written as its name or, where no class has
    that name, as its index. A part between the commas of a name, as in ``tench, Tinca tinca``, will do.

    Args:
        path: the file.
        teacher_classes: their names, or only their number.
        student_classes: their names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, names what is not there, maps a class twice, or leaves a student class without any;
            all that is wrong with its classes at once.
    """
    path = Path(path)
    pairs = _read(path)
    count = teacher_classes if isinstance(teacher_classes, int) else len(teacher_classes)
    teachers = _Classes("teacher", None if isinstance(teacher_classes, int) else teacher_classes, count)
    students = _Classes("student", student_classes, len(student_classes))
    target: list[int | None] = [None] * count
    seen: dict[int, str] = {}
    problems: list[str] = []
    for teacher, student in pairs:
        try:
            index = teachers.index(teacher)
            if index in seen:
                raise ValueError(f"teacher class {index} is mapped twice, as `{seen[index]}` and as `{teacher}`")
            seen[index] = teacher
            target[index] = None if student is None else students.index(student)
        except ValueError as error:
            problems.append(str(error))
    holes = [f"{name} ({index})" for index, name in enumerate(student_classes) if index not in target]
    if holes:
        problems.append(
            f"no teacher class is mapped to {len(holes)} of {len(student_classes)} student classes: {listed(holes)}; every"
            " student class needs one"
        )
    if problems:
        more = f"\n  ... and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise ValueError(f"label map {path}:\n  " + "\n  ".join(problems[:20]) + more)
    return tuple(target)


class _Classes:
    """Finds classes of a teacher or a student by what a file calls them."""

    def __init__(self, who: str, names: Sequence[str] | None, count: int) -> None:
        self.who, self.names, self.count = who, names, count
        self.whole: dict[str, list[int]] = {}
        self.parts: dict[str, list[int]] = {}
        for index, name in enumerate(names or ()):
            self.whole.setdefault(name, []).append(index)
            for part in name.split(", "):
                self.parts.setdefault(part, []).append(index)

    def index(self, text: str) -> int:
        """Return the index of the class called ``text``; raise ``ValueError`` where there is none, or are several."""
        found = self.whole.get(text)
        if found is None and text.isdecimal():
            if int(text) < self.count:
                return int(text)
            raise ValueError(f"{self.who} class {text} must be below {self.count}, as many classes as there are")
        found = found or self.parts.get(text)
        if found is None:
            if self.names is None:
                raise ValueError(
                    f"{self.who} class `{text}`: the names of its classes are not known, write indices, 0 to {self.count - 1}"
                )
            raise ValueError(f"unknown {self.who} class `{text}`.{suggest(text, [*self.whole, *self.parts])}".rstrip("."))
        if len(found) > 1:
            raise ValueError(f"{self.who} class `{text}` is the name of {len(found)}: write its index, one of {listed(found)}")
        return found[0]


def _read(path: Path) -> list[tuple[str, str | None]]:
    """Return the file's pairs as they are written; nothing is read as a number or a truth value (a class may be `no`)."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"label map {path} must be a {', '.join(FORMATS)} file.")
    if not path.is_file():
        raise FileNotFoundError(f"label map {path} does not exist.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        pairs = _read_csv(text) if path.suffix.lower() == ".csv" else _read_yaml(text)
    except (UnicodeDecodeError, yaml.YAMLError, csv.Error) as error:
        raise ValueError(f"label map {path} cannot be read ({error}).") from error
    except ValueError as error:
        raise ValueError(f"label map {path} must hold `teacher class: student class` pairs, {error}.") from None
    if not pairs:
        raise ValueError(f"label map {path} is empty: it must hold `teacher class: student class` pairs.")
    return pairs


def _read_csv(text: str) -> list[tuple[str, str | None]]:
    pairs: list[tuple[str, str | None]] = []
    for number, row in enumerate(csv.reader(text.splitlines()), start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and [cell.lower() for cell in cells] == ["teacher", "student"]):
            continue
        if len(cells) != 2 or not cells[0]:
            raise ValueError(f"got {row} in line {number} (a name with a comma needs double quotes)")
        pairs.append((cells[0], cells[1] or None))
    return pairs


def _read_yaml(text: str) -> list[tuple[str, str | None]]:
    node = strict_yaml.compose(text)
    if node is None:
        return []
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(f"got a {_kind(node)}")
    pairs: list[tuple[str, str | None]] = []
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or not isinstance(value, yaml.ScalarNode):
            raise ValueError(f"got a {_kind(value)} in line {key.start_mark.line + 1}: a teacher class has one student class")
        pairs.append((key.value, None if value.tag == _NULL else value.value))
    return pairs


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "mapping"
    return "list" if isinstance(node, yaml.SequenceNode) else "single value"
