"""What reading a large text costs: speed beside Hugging Face's word-level tokenizer, and peak memory. JSON on stdout.

    python scripts/measure_text.py --megabytes 500 --folder /tmp

The text is generated: words of a power law over `--distinct` different ones, 12 a line. Both sides cut the same text at
white space, know the same vocabulary and give ids; times are CPU seconds of one thread, the least of three. The memory is
that of a process of its own which does nothing else. Files are deleted at the end.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("RAYON_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np

COMPARED = 20_000_000  # bytes of the text on which the speeds are compared
DRAWN = 25_000_000  # bytes that are drawn

ALONE = """
import json, resource, sys, time
from rnnvg import text
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
corpus = text.load(sys.argv[1], vocabulary=30_000, tokens="spaces")
usage = resource.getrusage(resource.RUSAGE_SELF)
size = sum(len(corpus.split(each)) for each in ("train", "valid", "test"))
print(json.dumps({"words": size, "vocabulary": len(corpus.vocabulary), "peak_megabytes": usage.ru_maxrss / 1024,
                  "before_megabytes": before / 1024, "cpu_seconds": usage.ru_utime + usage.ru_stime}))
"""


def write_text(path: Path, megabytes: int, distinct: int) -> None:
    """Words of a power law, as Zipf's of natural text; after `DRAWN` bytes the same again."""
    generator = np.random.default_rng(0)
    words = np.array([f"w{np.base_repr(i, 36).lower()}" for i in range(distinct)])
    weights = 1 / np.arange(1, distinct + 1)
    edges = (weights / weights.sum()).cumsum()
    blocks: list[str] = []
    with path.open("w") as file:
        while file.tell() < min(DRAWN, megabytes * 1_000_000):
            drawn = words[np.searchsorted(edges[:-1], generator.random(120_000))]
            blocks.append("".join(" ".join(line) + "\n" for line in drawn.reshape(-1, 12)))
            file.write(blocks[-1])
        for block in itertools.cycle(blocks):
            if file.tell() >= megabytes * 1_000_000:
                break
            file.write(block)


def least_seconds(run: Callable[[], Any]) -> float:
    """CPU seconds, the least of three."""
    found = []
    for _ in range(3):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return min(found)


def compare_speed(path: Path) -> dict[str, Any]:
    """Words a CPU second of both, and the check that they give the same ids."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    from rnnvg.text.corpus import OpenIds
    from rnnvg.text.tokens import TOKENS

    with path.open(encoding="utf-8") as file:
        lines = file.read(COMPARED).splitlines(keepends=True)[:-1]
    text, cut = "".join(lines), TOKENS["spaces"]
    seen = OpenIds()
    ours = seen.encode([cut(text)])
    theirs = Tokenizer(models.WordLevel(dict(seen), unk_token="<eos>"))
    theirs.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    their_lines = [line.replace("\n", " <eos>") for line in lines]
    pieces = ["".join(lines[start : start + 10_000]) for start in range(0, len(lines), 10_000)]
    found = np.concatenate([each.ids for each in theirs.encode_batch(their_lines)])
    mine = least_seconds(lambda: seen.encode(cut(piece) for piece in pieces))
    batch = least_seconds(lambda: [each.ids for each in theirs.encode_batch(their_lines)])
    fast = getattr(theirs, "encode_batch_fast", theirs.encode_batch)
    quick = least_seconds(lambda: [each.ids for each in fast(their_lines)])
    return {
        "words": len(ours),
        "same_ids": bool(np.array_equal(ours, found)),
        "rnnvg_words_per_cpu_second": round(len(ours) / mine),
        "tokenizers_words_per_cpu_second": round(len(ours) / min(batch, quick)),
        "rnnvg / tokenizers, CPU time": mine / min(batch, quick),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--distinct", type=int, default=300_000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="rnnvg-text-", dir=options.folder))
    try:
        path = folder / "text.txt"
        write_text(path, options.megabytes, options.distinct)
        environment = {**os.environ, "RNNVG_CACHE": str(folder / "cache")}
        runs = []
        for _ in range(2):  # encoded, then found again
            done = subprocess.run(
                [sys.executable, "-c", ALONE, str(path)], env=environment, capture_output=True, text=True, check=True
            )
            runs.append(json.loads(done.stdout))
        found = {
            "megabytes": path.stat().st_size / 1e6,
            "first": runs[0],
            "again": runs[1],
            "speed": compare_speed(path),
        }
    finally:
        shutil.rmtree(folder)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
