"""Predicted masks: images of class numbers, in the classes' colors, that appear together when all are done."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from torch import Tensor

from logitkd.checks import listed
from logitkd.files import check_output, sync_folder, writing
from logitkd.tasks.answers import Answer, Answers
from logitkd.tasks.overlap import class_map

if TYPE_CHECKING:
    from logitkd.data import Batch
    from logitkd.data.unseen import Unseen

__all__ = ["COLORS", "MaskAnswers", "MaskPrediction", "mask_png"]

COLORS = 256  # that an image of numbers can have


@dataclass(frozen=True)
class MaskPrediction(Answer):
    """What the student says of one image.

    Args:
        file: its path, as it was given or found in a folder that was given.
        mask: the path of the image of class numbers that was written.
        shares: of each class the share of the pixels that the student gives it, in [0, 1].
    """

    file: str
    mask: str
    shares: dict[str, float]

    def record(self) -> dict[str, Any]:
        """Return the paths and the shares."""
        shares = {name: float(f"{share:.6g}") for name, share in self.shares.items()}
        return {"file": self.file, "mask": self.mask, "shares": shares}

    def rows(self) -> list[dict[str, Any]]:
        """Return a row, the share of each class in a column of its own, called ``share of NAME``."""
        shares = {f"share of {name}": f"{share:.6g}" for name, share in self.shares.items()}
        return [{"file": self.file, "mask": self.mask, **shares}]


class MaskAnswers(Answers):
    """Writes a mask an image: a PNG of class numbers with the run's palette, as large as the image and named like it.

    Args:
        classes: in order.
        palette: the color of each.
        top: must be left out.
        output: the folder to write to.

    Raises:
        ValueError: there is none, or there are more classes than colors in such an image, or a ``top``.
        NotADirectoryError: it is no folder.
    """

    def __init__(
        self, classes: Sequence[str], palette: Sequence[Sequence[int]], top: int | None, output: str | Path | None
    ) -> None:
        if top is not None:
            raise ValueError(f"`top` must be left out where each pixel gets its most probable class, got {top}.")
        if output is None:
            raise ValueError("`output` must be given for a run on masks: the folder that the masks are written to, got none.")
        if len(classes) > COLORS:
            raise ValueError(f"masks of at most {COLORS} classes can be written, got a run of {len(classes)}.")
        check_output(Path(output))
        self._classes, self._palette, self._folder = classes, palette, Path(output)

    def begin(self, files: Sequence[str | Path], examples: Unseen) -> AbstractContextManager[None]:
        """Name the masks.

        Raises:
            ValueError: two would have one name.
            FileExistsError: there is one already.
        """
        self._examples = examples
        self._names = mask_names([file for file, _ in examples.places], files)
        first: dict[Path, str] = {}
        for (file, _), name in zip(examples.places, self._names, strict=True):
            if name in first:
                raise ValueError(
                    f"`files` must have different names, as each mask is named like its image, but {name} would be that of"
                    f" {first[name]} and of {file}. Give them one after the other, each with its own `output`."
                )
            first[name] = file
        self._refuse_present()
        return self._written()

    def of(self, output: Any, batch: Batch) -> list[Answer]:
        """Write the masks of a batch aside, at the size of its labels, and return what they hold."""
        height, width = batch.labels.shape[1:]
        logits = class_map(output, (height, width))
        self._examples.check_numbers(logits.isfinite().all(dim=(1, 2, 3)), batch.index)
        found: list[Answer] = []
        for index, numbers in zip(batch.index.tolist(), logits.argmax(dim=1).cpu(), strict=True):
            name, aside = self._names[index], self._aside / self._names[index]
            with writing(self._folder / name):
                aside.parent.mkdir(parents=True, exist_ok=True)
                aside.write_bytes(mask_png(numbers, self._palette))
            counts = numbers.flatten().bincount(minlength=len(self._classes))
            shares = dict(zip(self._classes, (counts / numbers.numel()).tolist(), strict=True))
            found.append(MaskPrediction(self._examples.places[index][0], str(self._folder / name), shares))
        return found

    def _refuse_present(self) -> None:
        present = [str(self._folder / name) for name in self._names if os.path.lexists(self._folder / name)]
        if present:
            raise FileExistsError(
                f"`output` must hold none of the masks that are to be written, but there is {listed(present, 3)} already,"
                " perhaps corrected by hand. Give another folder, or remove them."
            )

    @contextmanager
    def _written(self) -> Iterator[None]:
        """Give masks a place beside those of the folder; move them there when all are made, else leave nothing of them."""
        above = [path for path in (self._folder, *self._folder.parents) if not path.exists()]
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            holder = tempfile.TemporaryDirectory(prefix=".predict.", dir=self._folder)
        try:
            with holder as aside:
                self._aside = Path(aside)
                yield
                self._refuse_present()  # another process may have been there
                self._move()
        except BaseException:
            for path in above:  # which were made for the masks alone
                if path.exists() and not any(path.iterdir()):
                    path.rmdir()
            raise

    def _move(self) -> None:
        for name in self._names:
            with writing(self._folder / name):
                with (self._aside / name).open("rb") as file:
                    os.fsync(file.fileno())  # before the rename: else a power cut may leave the new name on no bytes
                (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(self._aside / name, self._folder / name)
        for folder in {(self._folder / name).parent for name in self._names}:
            sync_folder(folder)


def mask_names(images: Sequence[str], files: Sequence[str | Path]) -> list[Path]:
    """Return what the mask of each image is called: like the image in a folder that was given, folders in it included.

    Args:
        images: paths.
        files: those that were given: images, and folders that hold the others.

    >>> names = mask_names(["photos/a/one.jpg", "two.jpeg"], [Path("photos"), "two.jpeg"])
    >>> [str(name) for name in names]
    ['a/one.png', 'two.png']
    """
    given = [Path(file) for file in files]
    names = []
    for image in map(Path, images):
        folder = next((path for path in given if path != image and image.is_relative_to(path)), image.parent)
        names.append(image.relative_to(folder).with_suffix(".png"))
    return names


def mask_png(numbers: Tensor, palette: Sequence[Sequence[int]]) -> bytes:
    """Return an image of numbers ``(H, W)``, below 256, with the color of each."""
    image = Image.fromarray(np.ascontiguousarray(numbers.numpy().astype(np.uint8)))
    image.putpalette([part for color in palette for part in color])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
