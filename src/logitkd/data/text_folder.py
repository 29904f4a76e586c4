"""Texts in class folders: a file each, ``SPLIT/CLASS/NAME.txt``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datasets import Value

from logitkd.data.class_folders import FileKind
from logitkd.data.frames import ArrowColumn
from logitkd.data.splits import TEXTS
from logitkd.data.utf8 import read_text

__all__ = ["TEXT_FILES"]


@dataclass(frozen=True)
class _Contents:
    """The contents of files, read when they are asked for.

    Args:
        paths: ``{"path": ...}`` each.
    """

    paths: ArrowColumn

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> str:
        return read_text(Path(self.paths[row]["path"]))

    def to_list(self) -> list[str]:
        """Return all of them."""
        return [read_text(Path(value["path"])) for value in self.paths.to_list()]


TEXT_FILES = FileKind(TEXTS, frozenset({".txt"}), Value("string"), _Contents)
