"""GradientMonitor in a real training loop, and its numbers in TensorBoard's and Lightning's own files."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import rnnvg
from rnnvg import InputError
from rnnvg.bptt import lightning as adapter

T, B, I, H = 30, 4, 3, 6


def scaled(weight, bias=None):
    """A linear RNN (relu kept positive) whose gain is `weight` a step."""
    module = nn.RNN(I, H, nonlinearity="relu")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        module.weight_hh_l0.copy_(torch.eye(H) * weight)
        module.bias_ih_l0.fill_(1.0)
    return module


def step(module, x=None):
    output, _ = module(torch.randn(T, B, I) if x is None else x)
    output[-1].sum().backward()


def test_the_numbers_of_a_known_recurrence():
    module = scaled(0.8)
    monitor = rnnvg.GradientMonitor(module, every=1)
    assert monitor.metrics() == {}
    assert monitor.verdict() == "not measured"
    step(module)
    found = monitor.metrics()
    assert found["gain_1"] == pytest.approx(0.8, rel=1e-5)
    assert found["gain_10"] == pytest.approx(0.8**10, rel=1e-5)
    assert "gain_100" not in found
    assert found["horizon"] == 1 + math.floor(1 / -math.log(0.8))
    assert found["horizon_censored"] == 0
    assert (found["vanished"], found["exploded"], found["verdict"]) == (0, 0, 0)
    assert found["verdict_threshold"] == 0.5
    assert found["step"] == 0


@pytest.mark.parametrize(
    ("weight", "verdict", "code"), [(0.5, "vanishing", -1), (1.0, "neither", 0), (2.0, "exploding", 1)]
)
def test_the_verdict(weight, verdict, code):
    module = scaled(weight)
    monitor = rnnvg.GradientMonitor(module, every=1)
    step(module)
    assert monitor.verdict() == verdict
    assert monitor.metrics()["verdict"] == code


def test_only_one_step_in_so_many_is_watched_and_optimiser_steps_do_not_matter():
    torch.manual_seed(0)
    module = nn.LSTM(I, H)
    optimiser = torch.optim.SGD(module.parameters(), 0.1)
    monitor = rnnvg.GradientMonitor(module, every=3)
    seen = []
    for _ in range(8):
        before = [parameter.detach().clone() for parameter in module.parameters()]
        x = torch.randn(T, B, I)
        optimiser.zero_grad()
        step(module, x)
        optimiser.step()
        found = monitor.metrics()
        seen.append(found["step"])
        if len(seen) in (1, 4, 7):
            after = [parameter.detach().clone() for parameter in module.parameters()]
            with torch.no_grad():
                for parameter, old in zip(module.parameters(), before, strict=True):
                    parameter.copy_(old)
            ones = torch.zeros(T, B, H)
            ones[-1] = 1
            want = rnnvg.gradient_profile(module, x, output_grad=ones)
            assert found["horizon"] == want.horizon().last
            assert found["gain_10"] == pytest.approx(np.exp(want.log_gain(0)[0, 10].mean()), rel=1e-4)
            with torch.no_grad():
                for parameter, new in zip(module.parameters(), after, strict=True):
                    parameter.copy_(new)
    assert seen == [0, 0, 0, 3, 3, 3, 6, 6]
    monitor.close()
    assert not module._forward_pre_hooks
    assert not module._forward_hooks


def test_evaluation_is_not_counted():
    module = scaled(0.8)
    monitor = rnnvg.GradientMonitor(module, every=2)
    with torch.no_grad():
        module(torch.randn(T, B, I))
    module.eval()
    module(torch.randn(T, B, I))
    module.train()
    step(module)
    assert monitor.metrics()["step"] == 0


def test_a_single_step_sequence_has_no_horizon_but_no_error():
    module = scaled(0.8)
    monitor = rnnvg.GradientMonitor(module, every=1)
    step(module, torch.randn(1, B, I))
    assert monitor.metrics()["gain_1"] == pytest.approx(0.8, rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"every": 0}, "`every` must be a whole number of at least 1; got 0."),
        ({"vanished": 2.0}, "`vanished` must be a number strictly between 0 and 1; got 2."),
        ({"exploded": 0.5}, "`exploded` must be a finite number above 1; got 0.5."),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(InputError) as caught:
        rnnvg.GradientMonitor(nn.GRU(I, H), **settings)
    assert str(caught.value) == message


def test_tensorboard_reads_the_numbers_back(tmp_path):
    pytest.importorskip("tensorboard")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from torch.utils.tensorboard.writer import SummaryWriter

        module = scaled(0.8)
        monitor = rnnvg.GradientMonitor(module, every=1)
        with SummaryWriter(str(tmp_path)) as writer:
            for number in range(3):
                step(module)
                monitor.to_tensorboard(writer, number)
        events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("gradient/gain_10")] == [0, 1, 2]
    assert events.Scalars("gradient/gain_10")[0].value == pytest.approx(0.8**10, rel=1e-5)


def test_lightning_logs_the_numbers(tmp_path):
    pytest.importorskip("lightning")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lightning
        from lightning.pytorch.loggers import CSVLogger

        class Model(lightning.LightningModule):
            def __init__(self):
                super().__init__()
                self.core = scaled(0.8)

            def training_step(self, batch, _):
                return self.core(batch[0].transpose(0, 1))[0][-1].sum()

            def configure_optimizers(self):
                return torch.optim.SGD(self.parameters(), 1e-9)

        data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(4 * B, T, I)), batch_size=B)
        logger = CSVLogger(str(tmp_path), flush_logs_every_n_steps=1)
        trainer = lightning.Trainer(
            max_epochs=1,
            logger=logger,
            callbacks=[adapter.callback(every=2)],
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            accelerator="cpu",
        )
        trainer.fit(Model(), data)
        logger.save()
    import pandas as pd

    logged = pd.read_csv(f"{logger.log_dir}/metrics.csv")
    gains = logged["gradient/gain_10"].dropna()
    assert len(gains) == 2
    assert gains.iloc[0] == pytest.approx(0.8**10, rel=1e-4)
    norms = logged["gradient/norm/core"].dropna()
    assert list(logged.loc[norms.index, "step"]) == [0, 2]
    model = Model()
    model.training_step([data.dataset.tensors[0][:B]], 0).backward()
    expected = math.sqrt(sum(float(each.grad.double().square().sum()) for each in model.parameters()))
    assert adapter.layer_norms(model) == {"core": pytest.approx(expected, rel=1e-6)}
    sparse = nn.Sequential(nn.Embedding(4, 2, sparse=True), nn.Linear(2, 1))
    sparse(torch.tensor([1, 1, 2])).sum().backward()
    assert list(adapter.layer_norms(sparse)) == ["0", "1"]
