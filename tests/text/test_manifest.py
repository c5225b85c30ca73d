"""The project's data, found in a checkout and in an installed package alike."""

import pytest

from rnnvg.errors import InputError
from rnnvg.text import manifest


def test_data_is_found_in_the_package_first_and_then_beside_it(monkeypatch, tmp_path):
    package = tmp_path / "site-packages" / "rnnvg"
    monkeypatch.setattr(manifest, "_PACKAGE", package)
    with pytest.raises(InputError) as caught:
        manifest.data_file("manifest.toml")
    assert str(caught.value) == (
        "The data file 'manifest.toml' is missing from this installation; install rnnvg again."
    )
    for folder in (package.parent / "data", package / "data"):
        folder.mkdir(parents=True)
        (folder / "manifest.toml").write_text("[sample]\nlicence = 'MIT'\n")
        assert manifest.data_file("manifest.toml") == folder / "manifest.toml"
    assert manifest.manifest("sample") == {"licence": "MIT"}


def test_a_corpus_that_is_not_listed_is_one_clear_sentence():
    with pytest.raises(InputError, match=r"`corpus` has no 'shakspeare'. Did you mean 'shakespeare'\?"):
        manifest.manifest("shakspeare")


def test_every_corpus_says_where_it_is_from_and_how_to_get_it():
    for name in ("shakespeare", "agreement-sample"):
        entry = manifest.manifest(name)
        assert {"source", "get", "licence"} <= set(entry)
