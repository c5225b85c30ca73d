"""A UTF-8 file in pieces cut at white space, so that a large one never stands in memory whole; and a text in three parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rnnvg.errors import InputError
from rnnvg.files import check_regular
from rnnvg.text.corpus import SPLITS

PIECE = 1 << 20
# The longest stretch without white space that is read as text.
LONGEST = 1 << 26
# Where one file ends its training part and its validation part.
CUTS = (0.90, 0.95)
_WHITE = (b"\n", b" ", b"\t", b"\r")


def read_pieces(path: Path, digest: Any = None) -> Iterator[str]:
    """The text of a UTF-8 file in pieces of about a megabyte, each cut after white space.

    Args:
        path: the file.
        digest: a hashlib object to be fed with the bytes that are read.

    Raises:
        InputError: the file cannot be read, holds a NUL byte, is not UTF-8, or has no white space for 64 MiB; the last
            three name the byte.
    """
    check_regular(path, "text")
    try:
        with path.open("rb") as file:
            rest, offset, ended = b"", 0, True
            while block := file.read(PIECE):
                if digest is not None:
                    digest.update(block)
                nul = block.find(0)
                if nul >= 0:
                    at = offset + len(rest) + nul
                    raise InputError(f"{str(path)!r} is not a text: byte {at} is NUL; pass a UTF-8 text file.")
                rest += block
                ended = rest.endswith(b"\n")
                # White space is a single byte that occurs in no other character: a cut after it splits none.
                cut = max(rest.rfind(white) for white in _WHITE) + 1
                if cut:
                    yield _decoded(path, rest[:cut], offset)
                    rest, offset = rest[cut:], offset + cut
                elif len(rest) > LONGEST:
                    raise InputError(
                        f"{str(path)!r} is not a text of words: from byte {offset} on there is no white space for "
                        f"{LONGEST >> 20} MiB; pass a text with words between spaces."
                    )
            if rest:
                yield _decoded(path, rest, offset)
            if not ended:
                # A last line is a line, with or without its end.
                yield "\n"
    except OSError as error:
        raise InputError(f"The text {str(path)!r} cannot be read: {error.strerror}.") from error


def _decoded(path: Path, piece: bytes, offset: int) -> str:
    try:
        text = piece.decode("utf-8")
    except UnicodeDecodeError as error:
        at = offset + error.start
        raise InputError(
            f"The text {str(path)!r} is not UTF-8 at byte {at} (0x{piece[error.start]:02x}); save it as UTF-8."
        ) from error
    # A byte order mark is not part of the text.
    return text.removeprefix("\ufeff") if offset == 0 else text


def by_position(whole: np.ndarray) -> dict[str, np.ndarray]:
    """One text [N] as its first 90 %, the next 5 % and the last 5 %: train, valid and test."""
    bounds = [int(len(whole) * share) for share in CUTS]
    return dict(zip(SPLITS, np.split(whole, bounds), strict=True))
