"""Every public name is shown in an example that runs, and the reference has a place for what it lists."""

import importlib.util
import re
from pathlib import Path

import rnnvg

ROOT = Path(__file__).parents[2]


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_has_an_example():
    names = script("public_names")
    every = dict(names.public_names())
    assert len(every) > 120
    assert [name for name, found in every.items() if not names.has_example(found)] == []


def test_what_has_no_example_is_found():
    def bare():
        """Does nothing."""

    def shown():
        """Does nothing.

        >>> shown()
        """

    has_example = script("public_names").has_example
    assert not has_example(bare)
    assert has_example(shown)


def test_every_name_of_the_reference_exists():
    listed = re.findall(r"^   ([\w.]+)$", (ROOT / "docs/api/index.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(listed) > 40
    assert len(set(listed)) == len(listed)
    for name in listed:
        found = rnnvg
        for part in name.split("."):
            found = getattr(found, part)
