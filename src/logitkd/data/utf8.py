"""Text files of UTF-8; any other is refused with the place of what is not."""

from __future__ import annotations

from pathlib import Path

__all__ = ["decode_utf8", "is_unicode", "read_text", "read_utf8"]


def is_unicode(text: str) -> bool:
    r"""Whether a text can be written as UTF-8: it holds no half of a character, a lone surrogate.

    >>> is_unicode("caf\u00e9"), is_unicode("\ud800")
    (True, False)
    """
    return text.encode(errors="ignore").decode() == text


def read_utf8(path: Path) -> str:
    """Return the text of a file as it stands, its line ends too, without the mark (BOM) that some programs put before it.

    Raises:
        ValueError: it cannot be read, or is not UTF-8 throughout; the first byte that is not is named.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error}.") from error
    return decode_utf8(content, str(path))


def read_text(path: Path) -> str:
    """Return the one text that a file holds: :func:`read_utf8`, but for the line end by which an editor ends a file."""
    return read_utf8(path).removesuffix("\n").removesuffix("\r")


def decode_utf8(content: bytes, where: str) -> str:
    """Return the text that ``content`` of a file called ``where`` spells; see :func:`read_utf8`."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{where} must be UTF-8 text, got the byte 0x{content[error.start]:02x} at byte {error.start}, line {line}. Is it"
            " of another encoding, wholly or in part, or no text file? Save it as UTF-8."
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(f"{where} must be a text file, got a null byte in line {line}. Is it of another format?")
    return text.removeprefix("\ufeff")
