"""A progress bar for one training or one long measurement, on a terminal alone."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm


class StepBar:
    """Called as on_progress(step, steps, loss), the loss or not; use it as a context. Nothing in a pipe or where `quiet`."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.bar: tqdm | None = None

    def __enter__(self) -> StepBar:
        return self

    def __call__(self, step: int, steps: int, loss: float | None = None) -> None:
        if self.bar is None:
            from tqdm import tqdm

            # tqdm shows nothing where `disable` is None and stderr is not a terminal.
            self.bar = tqdm(total=steps, unit="step", disable=True if self.quiet else None, dynamic_ncols=True)
        if self.bar.disable:
            return
        if loss is not None:
            self.bar.set_postfix_str(f"loss {loss:.3g}", refresh=False)
        self.bar.update(step - self.bar.n)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()
