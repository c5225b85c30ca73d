"""What is promised about learning from real articles: checked where they are, beside the project; skipped elsewhere."""

import argparse
import importlib.util
from pathlib import Path

import pytest

from rnnvg.tasks import next_word

ROOT = Path(__file__).parent.parent.parent
WIKITEXT = ROOT.parent / "shared" / "corpora" / "wikitext-2"


@pytest.mark.acceptance
@pytest.mark.skipif(not WIKITEXT.is_dir(), reason="real articles are not on this machine")
def test_a_small_lstm_is_45_percent_below_word_frequencies_within_15_minutes(tmp_path):
    path = ROOT / "scripts" / "measure_language_model.py"
    spec = importlib.util.spec_from_file_location("measure_language_model", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    task = next_word.make(text=script.split_folder(WIKITEXT, tmp_path), vocabulary=10_000, bptt=35)
    options = argparse.Namespace(passes=3, batch=20, lr=0.002, decay=0.5, dropout=0.4)
    found = script.measure(options, task, "lstm", seed=0)
    assert found["status"] == "ok"
    assert found["below_unigram"] >= 0.45
    assert found["cpu_minutes"] <= 15
