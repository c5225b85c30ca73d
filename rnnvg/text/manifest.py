"""The manifest of corpora: where each comes from, its licence and the sha256 of every file."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path
from typing import Any

from rnnvg.errors import InputError, check_name

_PACKAGE = Path(__file__).resolve().parent.parent


def data_file(name: str) -> Path:
    """A file of the project's own data: inside the installed package, or beside it in a checkout.

    Raises:
        InputError: it is in neither place.
    """
    for folder in (_PACKAGE / "data", _PACKAGE.parent / "data"):
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"The data file {name!r} is missing from this installation; install rnnvg again.")


def manifest(name: str) -> dict[str, Any]:
    """What the manifest says of one corpus.

    Raises:
        InputError: it is not listed.
    """
    listed = tomllib.loads(data_file("manifest.toml").read_text(encoding="utf-8"))
    return listed[check_name("corpus", name, listed)]


def verified_text(path: Path, sha256: str, remedy: str) -> str:
    """The UTF-8 text of a file whose bytes are the ones listed.

    Args:
        path: the file.
        sha256: what its bytes must hash to.
        remedy: how to get the right file, the end of the sentence.

    Raises:
        InputError: the file is missing or other than listed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"The text {str(path)!r} cannot be read ({error.strerror}); {remedy}.") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(
            f"The text {str(path)!r} is not the one listed in the manifest (its sha256 differs); {remedy}."
        )
    return content.decode("utf-8")
