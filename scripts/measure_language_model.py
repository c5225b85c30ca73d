"""How far below word frequencies small language models get on real articles, and what that costs: JSON on stdout.

    python scripts/measure_language_model.py --corpus ../shared/corpora/wikitext-2
    python scripts/measure_language_model.py --corpus ../shared/corpora/wikitext-2 --cells rnn,lstm,gru --seeds 3 --passes 2

The corpus is a folder with valid.txt and test.txt of WikiText-2 (Merity et al. 2016). The first 95 % of the lines of
valid.txt are for training, the rest for the learning rate; test.txt is read once, at the end. The network is the small
one of Zaremba, Sutskever and Vinyals (2014), two layers of 200, with tied weights and locked dropout; the readout's bias
starts at the logarithms of train's word frequencies, which Adam would take hundreds of steps to reach. Seconds are those
that the process spent on a CPU, scoring included; one thread. Several cells are compared pair by pair: networks with the
same seed have the same dropout masks and data in the same order, and the interval is a t-interval over seeds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from scipy import stats

from rnnvg import models, training
from rnnvg.tasks import next_word, windows
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


def measure(options: argparse.Namespace, task: NextWord, cell: str, seed: int) -> dict[str, Any]:
    """Trains and scores one network; what came out, by name."""
    began = time.process_time()
    torch.manual_seed(seed)
    model = models.build(task, cell, hidden=200, layers=2, tied=True, dropout=options.dropout)
    with torch.no_grad():
        counts = torch.from_numpy(windows.counts(task.corpus.train, task.n_inputs) + 1)
        model.readout.bias.copy_((counts / counts.sum()).log())
    pass_steps = len(task.corpus.train) // (options.batch * 35)
    result = training.fit(
        model,
        task,
        steps=options.passes * pass_steps,
        batch=options.batch,
        lr=options.lr,
        decay=options.decay,
        eval_every=pass_steps,
        generator=torch.Generator().manual_seed(seed),
        checkpoints=range(0, options.passes * pass_steps, max(1, pass_steps // 4)),
        on_checkpoint=lambda step, model: print(
            f"{cell} {seed}: pass {step / pass_steps:.2f}, perplexity {task.score(model)['perplexity']:.1f} on the "
            f"validation part, {time.process_time() - began:.0f} s of CPU",
            file=sys.stderr,
            flush=True,
        ),
    )
    print(f"{cell} {seed}: test perplexity {result.score['perplexity']:.1f}", file=sys.stderr, flush=True)
    valid = result.history[(result.history["split"] == "valid") & (result.history["metric"] == "perplexity")]
    return {
        "cell": cell,
        "seed": seed,
        "status": result.status,
        "steps": result.steps,
        "parameters": models.count_parameters(model),
        "valid_perplexity": [round(value, 1) for value in valid["value"]],
        "test_loss": result.score["loss"],
        "test_perplexity": result.score["perplexity"],
        "below_unigram": 1 - result.score["perplexity"] / task.baseline,
        "cpu_minutes": (time.process_time() - began) / 60,
    }


def paired(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each two cells the mean difference of the test loss, nats a word, with its 95 % t-interval over seeds."""
    loss = {(run["cell"], run["seed"]): run["test_loss"] for run in runs}
    cells, seeds = dict.fromkeys(run["cell"] for run in runs), dict.fromkeys(run["seed"] for run in runs)
    rows = []
    for one, other in itertools.combinations(cells, 2):
        differences = np.array([loss[one, seed] - loss[other, seed] for seed in seeds])
        n, mean = len(differences), float(differences.mean())
        half = float(stats.t.ppf(0.975, n - 1) * differences.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan
        rows.append({"pair": f"{one} - {other}", "nats_a_word": mean, "low": mean - half, "high": mean + half, "n": n})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--cells", default="lstm")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--vocabulary", type=int, default=10_000)
    parser.add_argument("--passes", type=int, default=9)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--lr", type=float, default=0.002)
    parser.add_argument("--decay", type=float, default=0.5)
    parser.add_argument("--dropout", type=float, default=0.4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        text = split_folder(options.corpus, Path(folder))
        task = next_word.make(text=text, vocabulary=options.vocabulary, bptt=35)
    runs = [measure(options, task, cell, seed) for seed in range(options.seeds) for cell in options.cells.split(",")]
    found = {
        **{name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()},
        "words": {"vocabulary": task.n_inputs, "train": len(task.corpus.train), "test": len(task.corpus.test)},
        "unigram_perplexity": task.baseline,
        "runs": runs,
        "pairs": paired(runs),
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
