"""The callback in a real transformers.Trainer: its history and TensorBoard, beside the trainer's own numbers."""

import json

import pytest
import torch
from torch import nn

from rnnvg import InputError
from rnnvg.bptt import huggingface

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytestmark = pytest.mark.filterwarnings("ignore")

T, I, H = 20, 3, 6


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.core, self.readout = nn.GRU(I, H, batch_first=True), nn.Linear(H, 1)

    def forward(self, x, labels):
        loss = nn.functional.mse_loss(self.readout(self.core(x)[0][:, -1]), labels)
        return {"loss": loss}


def train(directory, every=None, **settings):
    torch.manual_seed(1)
    data = [{"x": torch.randn(T, I), "labels": torch.randn(1)} for _ in range(40)]
    arguments = transformers.TrainingArguments(
        output_dir=str(directory),
        max_steps=10,
        per_device_train_batch_size=4,
        logging_steps=4,
        disable_tqdm=True,
        save_strategy="no",
        use_cpu=True,
        seed=0,
        **settings,
    )
    trainer = transformers.Trainer(model=Model(), args=arguments, train_dataset=data)
    if every:
        trainer.add_callback(huggingface.callback(trainer, every=every))
    trainer.train()
    return trainer


@pytest.mark.parametrize("every", [3, 4])
def test_numbers_reach_the_history_and_leave_the_training_alone(tmp_path, every):
    plain, logged = train(tmp_path / "plain"), train(tmp_path / "logged", every)
    ours = [row for row in logged.state.log_history if any(key.startswith("gradient/") for key in row)]
    others = [row for row in logged.state.log_history if row not in ours]
    assert [row["step"] for row in ours] == [1 + step for step in range(10) if step % every == 0]
    assert [row["gradient/step"] for row in ours] == [step for step in range(10) if step % every == 0]
    assert all(0 < row["gradient/gain_1"] < 1 and "gradient/horizon" in row for row in ours)
    assert [row["step"] for row in others] == [row["step"] for row in plain.state.log_history] == [4, 8, 10]
    assert [row.get("loss") for row in others] == [row.get("loss") for row in plain.state.log_history]
    for one, other in zip(plain.model.parameters(), logged.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not logged.model.core._forward_hooks
    json.dumps(ours)


def test_tensorboard_has_them_at_the_trainers_steps(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    train(tmp_path, 3, report_to=["tensorboard"])
    (file,) = tmp_path.rglob("events.*")  # the oldest transformers writes into the output's own folder
    events = EventAccumulator(str(file.parent)).Reload()
    (name,) = [tag for tag in events.Tags()["scalars"] if tag.endswith("gradient/horizon")]
    assert [event.step for event in events.Scalars(name)] == [1, 4, 7, 10]


def test_a_model_without_recurrence_is_refused_at_once(tmp_path):
    model = nn.Linear(2, 2)
    arguments = transformers.TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[])
    with pytest.raises(InputError, match="has 0 recurrent modules inside"):
        huggingface.callback(transformers.Trainer(model=model, args=arguments))
