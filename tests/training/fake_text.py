"""A text task that is small and slow to nobody: a seeded word sequence, read in consecutive windows."""

import math

import torch
from torch import nn

from rnnvg.tasks import Batch


class FakeText:
    """Each word is the one three words before it plus one, or, one time in four, any word."""

    name, kind, metric, better = "next-word", "tokens", "perplexity", "lower"
    steps, distances, probe_sources = 5, None, 8
    baseline_text, best_loss = "Any word is as likely.", None
    streamed, vocabulary = True, None

    def __init__(self, words=600, vocabulary=7):
        self.n_inputs = self.n_outputs = vocabulary
        self.settings = {"words": words, "vocabulary": vocabulary}
        self.baseline, self.baseline_loss = float(vocabulary), math.log(vocabulary)
        self.splits = {}
        for seed, split in enumerate(("train", "valid", "test")):
            generator = torch.Generator().manual_seed(seed)
            text = torch.randint(vocabulary, (words,), generator=generator)
            kept = torch.rand(words, generator=generator) > 0.25
            for t in range(3, words):
                if kept[t]:
                    text[t] = (text[t - 3] + 1) % vocabulary
            self.splits[split] = text
        self.scored = []

    def stream(self, batch, bptt, split):
        text = self.splits[split]
        columns = text[: len(text) // batch * batch].view(batch, -1).T
        for start in range(0, len(columns) - bptt, bptt):
            yield Batch(columns[start : start + bptt], columns[start + 1 : start + bptt + 1])

    def loss(self, outputs, batch):
        return nn.functional.cross_entropy(outputs.flatten(0, 1), batch.targets.flatten())

    def score(self, model, generator, n, split="valid", max_words=200):
        self.scored.append((split, max_words))
        mode, state, losses = model.training, None, []
        model.eval()
        with torch.no_grad():
            for batch in self.stream(1, self.steps, split):
                outputs, state = model(batch.inputs, state)
                losses.append(float(self.loss(outputs, batch)))
                if max_words is not None and len(losses) * self.steps >= max_words:
                    break
        model.train(mode)
        loss = sum(losses) / len(losses)
        return {"loss": loss, "perplexity": math.exp(loss)}

    def final_score(self, model, generator, n):
        return self.score(model, generator, n, "test", None)

    def solved(self, score):
        return False
