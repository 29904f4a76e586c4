"""The fingerprint of a data set that has been read: computed once, and kept with what its files were like."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any, Protocol

from logitkd.hashes import Snapshot

__all__ = ["Kept"]


class _Split(Protocol):
    def update(self, digest: Any) -> None: ...


class Kept:
    """Base of a data set of two splits; its subclasses are dataclasses with these fields."""

    train: _Split
    eval: _Split
    classes: tuple[str, ...]
    files: Snapshot | None

    @cached_property
    def fingerprint(self) -> str:
        """Hash (32 hexadecimal digits) of examples, labels, their order, and the class names.

        Of files that have not changed since it was last computed it is known already.
        """
        known = None if self.files is None else self.files.known()
        if known is not None:
            return known
        digest = hashlib.sha256(repr(self.classes).encode())
        for split in (self.train, self.eval):
            split.update(digest)
        fingerprint = digest.hexdigest()[:32]
        if self.files is not None:
            self.files.keep(fingerprint)
        return fingerprint
