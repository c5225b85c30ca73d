"""Lists every sentence that a user reads: help, messages, errors, captions and texts of pages, each with its place.

python scripts/list_sentences.py [PART ...]      of the package's files whose path holds a PART
python scripts/list_sentences.py --words told,asked   those with one of these words
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "rnnvg"


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every piece of prose of a module: strings of three words and more, docstrings only of commands."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documents = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            command = any(
                "command" in ast.unparse(each) or "group" in ast.unparse(each)
                for each in getattr(node, "decorator_list", [])
            )
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and not command:
                documents.add(id(first.value))
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        text = None
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents | inside:
            text = node.value
        if text and len(re.findall(r"[A-Za-z]{2,}", text)) >= 3 and " " in text.strip():
            yield getattr(node, "lineno", 0), " ".join(text.split())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*")
    parser.add_argument("--words", default="")
    given = parser.parse_args()
    words = re.compile(rf"\b({'|'.join(given.words.split(','))})\b") if given.words else None
    for path in sorted(ROOT.rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if given.parts and not any(part in name for part in given.parts):
            continue
        for line, text in sentences(path):
            if words is None or words.search(text):
                print(f"{name}:{line}: {text}")


if __name__ == "__main__":
    main()
