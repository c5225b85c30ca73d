"""Text to tokens: lower-case words and stops, or whatever stands between spaces."""

from __future__ import annotations

import re
from collections.abc import Callable

UNKNOWN = "<unk>"
END_OF_LINE = "<eos>"
# Letters and digits with apostrophes inside (o'er, king's), the six stops, and the signs that published corpora use.
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|[.,;:!?]|<unk>|<eos>")


def words(text: str) -> list[str]:
    """Lower-case words and `. , ; : ! ?`; all else only separates.

    >>> words("O'er the sea-cliff, HO! <unk> 'tis 1606.")
    ["o'er", 'the', 'sea', 'cliff', ',', 'ho', '!', '<unk>', 'tis', '1606', '.']
    """
    return _WORD.findall(text.lower())


def spaces(text: str) -> list[str]:
    """What stands between spaces, case kept, and `<eos>` at the end of each line: for text that comes already split.

    >>> spaces("no it was n't\\nBlack <unk>\\n")
    ['no', 'it', 'was', "n't", '<eos>', 'Black', '<unk>', '<eos>']
    """
    return text.replace("\n", f" {END_OF_LINE} ").split()


TOKENS: dict[str, Callable[[str], list[str]]] = {"words": words, "spaces": spaces}
