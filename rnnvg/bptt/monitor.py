"""GradientMonitor: a few numbers about the reach of the gradient, every so many training steps.

Weights & Biases:       if (found := monitor.metrics()): wandb.log(found, step=step)
Hugging Face Trainer:   trainer.add_callback(rnnvg.bptt.huggingface.callback(trainer, every=100))
TensorBoard:            monitor.to_tensorboard(writer, step)
Lightning:              Trainer(callbacks=[rnnvg.bptt.lightning.callback(every=100)])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from rnnvg.bptt.follower import Follower
from rnnvg.bptt.verdict import CODES, WORST, Verdict
from rnnvg.bptt.watch import find_recurrent
from rnnvg.errors import check_float, check_int, check_name

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


class GradientMonitor:
    """Watches one training step in every `every` and turns it into numbers for a log.

        monitor = rnnvg.GradientMonitor(model, every=100)
        for step, batch in enumerate(batches):
            ...                                   # forward, backward, optimiser, as they are
            if (found := monitor.metrics()):
                log(found, step)

    Only the watched steps cost anything: their weights are copied, and `metrics` follows the gradients of up to 4 of the
    steps that have a loss, in up to 8 of the sequences. A step is a forward call of the recurrent module in training mode
    with gradients enabled; calls that carry on from the final state of the one before are the same step. Whatever goes wrong
    while it is attached leaves the training alone and is told by `verdict` and `reason`.

    Args:
        model: an nn.RNN, nn.LSTM or nn.GRU, or a model with some of them inside, each of which is followed on its own.
        every: watch the first step and then one in so many.
        distance: how many steps back a source counts as vanished or exploded; shorter sequences count at their start. No
            gradient is followed further than that (or 100 steps), so a longer horizon reads as censored, "more than".
        vanished, exploded: gains, relative to one step back, below and above which a source counts so at that distance.

    Raises:
        InputError: as `watch`, or a number out of range.

    >>> import torch, rnnvg
    >>> model = torch.nn.GRU(3, 8)
    >>> monitor = rnnvg.GradientMonitor(model, every=1)
    >>> model(torch.randn(20, 4, 3))[0][-1].sum().backward()
    >>> all(isinstance(value, float) for value in monitor.metrics().values())
    True
    """

    def __init__(
        self, model: nn.Module, every: int = 100, *, distance: int = 100, vanished: float = 1e-3, exploded: float = 1e3
    ) -> None:
        self.every = check_int("every", every, least=1)
        self.distance = check_int("distance", distance, least=2)
        self.vanished = check_float("vanished", vanished, above=0, below=1)
        self.exploded = check_float("exploded", exploded, above=1)
        self.modules = find_recurrent(model)
        self._followers = {name: self._follow(module) for name, module in self.modules.items()}

    def _follow(self, module: nn.RNNBase) -> Follower:
        return Follower(module, self.every, self.distance, self.vanished, self.exploded)

    def __getstate__(self) -> dict[str, Any]:
        """A copy, deep or pickled, keeps the settings and is not attached to anything."""
        names = ("modules", "every", "distance", "vanished", "exploded")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._followers = {}

    @property
    def step(self) -> int:
        """The steps counted so far, from 0, -1 before the first: the most of any module."""
        return max((each.step for each in self._followers.values()), default=-1)

    def metrics(self) -> dict[str, float]:
        """The numbers of the latest watched step whose gradients have come back; {} where there is none yet.

        Keys: "horizon" (steps, at 1/e, relative to one step back) and "horizon_censored" (1.0: read "more than");
        "gain_1", "gain_10", "gain_100" (geometric mean, relative to the gradient at the loss's own step; absent beyond the
        sequence); "vanished", "exploded" (shares of sources); "verdict" (-1 vanishing, 0 neither, 1 exploding: the share
        that decides is more than "verdict_threshold"; 2 not finite, with "first_nonfinite" the step where the sequence or
        its gradient leaves the finite numbers; 3 not measured); "step" (the forward call that was watched). Where something
        was not measured its key is absent, and `reason` says why. Of several modules each has its own keys, as
        "encoder/horizon"; each direction of a bidirectional one too, as "forward/horizon" and "backward/horizon", beside the
        worse "verdict" of the two.

        Never raises for what happened in the training.
        """
        found = {name: follower.metrics() for name, follower in self._followers.items()}
        if len(found) == 1:
            return next(iter(found.values()))
        return {f"{name}/{key}": value for name, numbers in found.items() for key, value in numbers.items()}

    def verdict(self, name: str | None = None) -> Verdict:
        """The verdict of `metrics` as a word: of the module `name`, or the worst of all of them."""
        found = {self._verdict(each) for each in self._chosen(name)}
        for word in WORST:
            if word in found:
                return word
        return "not measured"

    @property
    def reason(self) -> str:
        """Why a verdict is "not finite" or "not measured", in a sentence for each such module; empty for the others."""
        found = {name: follower.reason() for name, follower in self._followers.items()}
        if len(found) == 1:
            return next(iter(found.values()))
        return " ".join(f"{name}: {reason}" for name, reason in found.items() if reason)

    def to_tensorboard(self, writer: SummaryWriter, step: int, prefix: str = "gradient/") -> None:
        """Write the numbers of `metrics` as scalars at `step`."""
        for name, value in self.metrics().items():
            writer.add_scalar(prefix + name, value, step)

    def close(self) -> None:
        """Take the hooks off the model."""
        for follower in self._followers.values():
            follower.close()

    def _chosen(self, name: str | None) -> list[Follower]:
        if name is None:
            return list(self._followers.values())
        return [self._followers[check_name("name", name, list(self._followers))]]

    @staticmethod
    def _verdict(follower: Follower) -> Verdict:
        code = follower.metrics().get("verdict", CODES["not measured"])
        return next(word for word, its_code in CODES.items() if its_code == code)
