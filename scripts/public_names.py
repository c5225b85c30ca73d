"""Lists every public name, and whether its docstring shows it in an example that runs.

python scripts/public_names.py            those without an example
python scripts/public_names.py --all      every name

Public are the names in `__all__` of rnnvg and of its packages, as far as they are functions and classes.
"""

from __future__ import annotations

import argparse
import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

import rnnvg


def public_names() -> Iterator[tuple[str, Any]]:
    """Dotted name and object, each object once."""
    packages = [
        rnnvg,
        *(importlib.import_module(f"rnnvg.{each.name}") for each in pkgutil.iter_modules(rnnvg.__path__)),
    ]
    seen: set[int] = set()
    for package in packages:
        for name in getattr(package, "__all__", ()):
            found = getattr(package, name)
            if (inspect.isfunction(found) or inspect.isclass(found)) and id(found) not in seen:
                seen.add(id(found))
                yield f"{package.__name__}.{name}", found


def has_example(found: Any) -> bool:
    """Whether a docstring holds an example, of a class its own or one of its methods'."""
    texts = [found.__doc__ or ""]
    if inspect.isclass(found):
        texts += [each.__doc__ or "" for each in vars(found).values() if inspect.isfunction(each)]
    return any(doctest.DocTestParser().get_examples(inspect.cleandoc(text)) for text in texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true")
    everything = parser.parse_args().all
    for name, found in public_names():
        shown = has_example(found)
        if everything or not shown:
            print(f"{name}{'' if shown or not everything else '    no example'}")


if __name__ == "__main__":
    main()
