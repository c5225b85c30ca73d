"""Ten ordinary training scripts: what people train recurrent networks for, small enough to run in a second or two.

Nine are loops of their own or of another's library; two of them need `lightning` and `transformers`. Tests hold them against
themselves with a monitor attached, and scripts/measure_monitor.py measures what it costs them.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

B, V, H = 4, 11, 8


class Classifier(nn.Module):
    """Packed sequences of different lengths, the last state read."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.core, self.out = (
            nn.Embedding(V, 5, padding_idx=0),
            nn.LSTM(5, H, batch_first=True),
            nn.Linear(H, 2),
        )

    def losses(self, generator: torch.Generator) -> Iterator[Tensor]:
        lengths = torch.randint(1, 9, (B,), generator=generator)
        ids = torch.randint(1, V, (B, int(lengths.max())), generator=generator)
        packed = pack_padded_sequence(self.embed(ids), lengths, batch_first=True, enforce_sorted=False)
        _, (h, _) = self.core(packed)
        yield F.cross_entropy(self.out(h[-1]), ids[:, 0] % 2)


class LanguageModel(nn.Module):
    """Tied weights, dropout between the layers and on the output, windows with a carried, detached state."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.core = nn.Embedding(V, H), nn.LSTM(H, H, 2, dropout=0.3)
        self.out = nn.Linear(H, V)
        self.out.weight = self.embed.weight

    def losses(self, generator: torch.Generator) -> Iterator[Tensor]:
        state, ids = None, torch.randint(V, (13, B), generator=generator)
        for start in (0, 6):
            output, state = self.core(self.embed(ids[start : start + 6]), state)
            yield F.cross_entropy(self.out(F.dropout(output, 0.3)).flatten(0, 1), ids[start + 1 : start + 7].flatten())
            state = tuple(part.detach() for part in state)


class Tagger(nn.Module):
    """Bidirectional: a tag at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.core, self.out = nn.Embedding(V, 5), nn.GRU(5, H, bidirectional=True), nn.Linear(2 * H, 3)

    def losses(self, generator: torch.Generator) -> Iterator[Tensor]:
        ids = torch.randint(V, (9, B), generator=generator)
        yield F.cross_entropy(self.out(self.core(self.embed(ids))[0]).flatten(0, 1), ids.flatten() % 3)


class Translator(nn.Module):
    """An encoder and a decoder with dot-product attention."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.encoder, self.decoder = nn.Embedding(V, H), nn.GRU(H, H), nn.GRU(H, H)
        self.out = nn.Linear(2 * H, V)

    def losses(self, generator: torch.Generator) -> Iterator[Tensor]:
        ids = torch.randint(V, (7, B), generator=generator)
        states, last = self.encoder(self.embed(ids))
        output, _ = self.decoder(self.embed(ids.flip(0)[:5]), last)
        weights = torch.softmax(torch.einsum("tbh,sbh->tbs", output, states), -1)
        seen = torch.cat([output, torch.einsum("tbs,sbh->tbh", weights, states)], -1)
        yield F.cross_entropy(self.out(seen).flatten(0, 1), ids.flip(0)[1:6].flatten())


class Siamese(nn.Module):
    """One encoder called twice in a step."""

    def __init__(self) -> None:
        super().__init__()
        self.core = nn.LSTM(3, H)

    def losses(self, generator: torch.Generator) -> Iterator[Tensor]:
        one, other = (self.core(torch.randn(9, B, 3, generator=generator))[1][0][-1] for _ in range(2))
        yield F.relu(1 - (one - other).square().sum(1)).mean()


class Accumulated(nn.Module):
    """Three small batches to an optimiser's step, under autocast with a scaler."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.out = nn.GRU(3, H), nn.Linear(H, 1)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=256.0)

    def losses(self, generator: torch.Generator) -> Iterator[Tensor]:
        for _ in range(3):
            with torch.autocast("cpu", torch.bfloat16):
                loss = self.out(self.core(torch.randn(9, B, 3, generator=generator))[0][-1]).float().square().mean() / 3
            yield self.scaler.scale(loss)


class WeightDropped(nn.Module):
    """AWD-LSTM: DropConnect on the recurrent weight, locked dropout on the inputs, activation regularisation."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.core, self.out = nn.Embedding(V, H), nn.LSTM(H, H), nn.Linear(H, V)
        self.raw = nn.Parameter(self.core.state_dict()["weight_hh_l0"].clone())
        del self.core._parameters["weight_hh_l0"]
        self.core.weight_hh_l0 = self.raw.detach().clone()

    def losses(self, generator: torch.Generator) -> Iterator[Tensor]:
        ids = torch.randint(V, (8, B), generator=generator)
        self.core.weight_hh_l0 = F.dropout(self.raw, 0.5, self.training)
        x = self.embed(ids) * F.dropout(torch.ones(1, B, H), 0.3, self.training)
        output, _ = self.core(x)
        yield F.cross_entropy(self.out(output[:-1]).flatten(0, 1), ids[1:].flatten()) + 2 * output.square().mean()


class Policy(nn.Module):
    """A recurrent policy called step by step, its state carried by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.out = nn.GRU(3, H), nn.Linear(H, 2)

    def losses(self, generator: torch.Generator) -> Iterator[Tensor]:
        state, logs = None, []
        for _ in range(12):
            output, state = self.core(torch.randn(1, B, 3, generator=generator), state)
            logs.append(F.log_softmax(self.out(output[0]), -1)[:, 0])
        yield -(torch.stack(logs) * torch.randn(12, B, generator=generator)).mean()


class Decayed(nn.Module):
    """A plain vanilla RNN of float64 numbers, its recurrent weight orthogonal by parametrization."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.out = nn.RNN(2, H, batch_first=True), nn.Linear(H, 1)
        nn.utils.parametrizations.orthogonal(self.core, "weight_hh_l0")
        self.double()

    def losses(self, generator: torch.Generator) -> Iterator[Tensor]:
        x = torch.randn(B, 15, 2, generator=generator, dtype=torch.float64)
        yield F.mse_loss(self.out(self.core(x)[0][:, -1]), x[:, 0, :1])


OWN_LOOPS = [Classifier, LanguageModel, Tagger, Translator, Siamese, Accumulated, WeightDropped, Policy, Decayed]


class Loop:
    """A training loop written by hand: gradients, clipping, AdamW."""

    def __init__(self, kind: type[nn.Module]) -> None:
        torch.manual_seed(0)
        self.model, self.generator = kind(), torch.Generator().manual_seed(1)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), 0.01)

    def step(self) -> None:
        self.optimiser.zero_grad()
        for loss in self.model.losses(self.generator):  # pyright: ignore[reportCallIssue]
            loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()

    def weights(self) -> list[Tensor]:
        return [each.detach().clone() for each in self.model.parameters()]


class Regression(nn.Module):
    """A GRU that reads a series and gives a number, as the libraries' trainers take it."""

    def __init__(self) -> None:
        super().__init__()
        self.core, self.readout = nn.GRU(3, H, batch_first=True), nn.Linear(H, 1)
        self.first: tuple[Tensor, dict[str, Tensor]] | None = None  # batch and weights, to do the first step again

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        if self.first is None:
            self.first = x.clone(), {name: each.detach().clone() for name, each in self.state_dict().items()}
        return {"loss": F.mse_loss(self.readout(self.core(x)[0][:, -1]), labels)}


def _data(steps: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(15, 3, generator=generator), torch.randn(1, generator=generator)) for _ in range(B * steps)]


def train_with_lightning(steps: int, every: int | None) -> tuple[nn.Module, Any]:
    """The model after `steps` steps of Lightning's Trainer, and the callback's monitor, None without one."""
    warnings.filterwarnings("ignore")
    import lightning

    from rnnvg.bptt import lightning as adapter

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = Regression()

        def training_step(self, batch: Any, _: int) -> Tensor:
            return self.model(*batch)["loss"]

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), 0.01)

    torch.manual_seed(0)
    module = Module()
    callbacks: list[Any] = [adapter.callback(every=every)] if every else []
    with tempfile.TemporaryDirectory() as directory:
        trainer = lightning.Trainer(
            max_steps=steps,
            gradient_clip_val=1.0,
            callbacks=callbacks,
            logger=False,
            default_root_dir=directory,
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            accelerator="cpu",
        )
        trainer.fit(module, torch.utils.data.DataLoader(_data(steps), batch_size=B))  # pyright: ignore[reportArgumentType]
    return module.model, callbacks[0].monitor if callbacks else None


def train_with_hugging_face(steps: int, every: int | None) -> tuple[nn.Module, Any]:
    """The model after `steps` steps of transformers' Trainer, and the callback's monitor, None without one."""
    import transformers

    from rnnvg.bptt import huggingface

    torch.manual_seed(0)
    model = Regression()
    with tempfile.TemporaryDirectory() as directory:
        arguments = transformers.TrainingArguments(
            output_dir=directory,
            max_steps=steps,
            per_device_train_batch_size=B,
            logging_steps=20,
            disable_tqdm=True,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            seed=0,
        )
        data: Any = [{"x": x, "labels": y} for x, y in _data(steps)]
        trainer = transformers.Trainer(model=model, args=arguments, train_dataset=data)
        found = huggingface.callback(trainer, every=every) if every else None
        if found is not None:
            trainer.add_callback(found)
        trainer.train()
    return model, None if found is None else found.monitor


LIBRARIES = {"Lightning": train_with_lightning, "Hugging Face": train_with_hugging_face}
