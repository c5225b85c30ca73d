"""How far below word frequencies a small LSTM gets on real articles, and what that costs: JSON on stdout.

    python scripts/measure_language_model.py --corpus ../shared/corpora/wikitext-2

The corpus is a folder with valid.txt and test.txt of WikiText-2 (Merity et al. 2016). The first 95 % of the lines of
valid.txt are for training, the rest for the learning rate; test.txt is read once, at the end. The network is the small
one of Zaremba, Sutskever and Vinyals (2014), two layers of 200, with tied weights and locked dropout. Seconds are those
that the process spent on a CPU, scoring included; one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from rnnvg import models, training
from rnnvg.tasks.next_word import NextWord

TRAIN_SHARE = 0.95


def split_folder(corpus: Path, folder: Path) -> Path:
    """A folder with three splits in WikiText's file names, from a corpus that comes without its training part."""
    lines = (corpus / "valid.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    cut = int(len(lines) * TRAIN_SHARE)
    parts = {"train": lines[:cut], "valid": lines[cut:]}
    for split, part in parts.items():
        (folder / f"wiki.{split}.tokens").write_text("".join(part), encoding="utf-8")
    (folder / "wiki.test.tokens").write_bytes((corpus / "test.txt").read_bytes())
    return folder


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Trains and scores one network; everything that was asked for and came out, by name."""
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        text = split_folder(options.corpus, Path(folder))
        task = NextWord(text=text, vocabulary=options.vocabulary, bptt=35)
    torch.manual_seed(options.seed)
    model = models.build(task, options.cell, hidden=200, layers=2, tied=True, dropout=options.dropout)
    pass_steps = len(task.corpus.train) // (options.batch * 35)
    result = training.fit(
        model,
        task,
        steps=options.passes * pass_steps,
        batch=options.batch,
        lr=options.lr,
        decay=options.decay,
        eval_every=pass_steps,
        generator=torch.Generator().manual_seed(options.seed),
        on_progress=lambda step, steps, loss: print(
            f"{step}/{steps} loss {loss:.3f} cpu {time.process_time() - began:.0f} s", file=sys.stderr
        ),
    )
    valid = result.history[(result.history["split"] == "valid") & (result.history["metric"] == "perplexity")]
    return {
        **{name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()},
        "steps": result.steps,
        "words": {"vocabulary": task.n_inputs, "train": len(task.corpus.train), "test": len(task.corpus.test)},
        "parameters": models.count_parameters(model),
        "valid_perplexity": [round(value, 1) for value in valid["value"]],
        "test_perplexity": result.score["perplexity"],
        "unigram_perplexity": task.baseline,
        "below_unigram": 1 - result.score["perplexity"] / task.baseline,
        "cpu_minutes": (time.process_time() - began) / 60,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--cell", default="lstm")
    parser.add_argument("--vocabulary", type=int, default=10_000)
    parser.add_argument("--passes", type=int, default=11)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--decay", type=float, default=0.5)
    parser.add_argument("--dropout", type=float, default=0.4)
    parser.add_argument("--seed", type=int, default=0)
    torch.set_num_threads(1)
    print(json.dumps(measure(parser.parse_args()), indent=1))


if __name__ == "__main__":
    main()
