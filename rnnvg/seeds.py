"""Named sub-seeds and short digests: functions of a text alone, the same on every machine. No torch."""

from __future__ import annotations

import hashlib


def seed_of(text: str) -> int:
    """A seed that is a function of `text`, in [0, 2^63).

    >>> seed_of("flossing 0")
    6514829712247005968
    """
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def short_digest(text: str) -> str:
    """12 hexadecimal digits of the SHA-256 of `text`, for names that people read.

    >>> short_digest("rnnvg")
    '227257b46237'
    """
    return hashlib.sha256(text.encode()).hexdigest()[:12]
