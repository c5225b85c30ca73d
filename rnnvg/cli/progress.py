"""A progress bar for what is done step by step, on a terminal alone."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm


class StepBar:
    """A bar, called as on_progress(done, of, what); use it as a context. Nothing in a pipe or where `quiet`.

    `what` is shown behind the bar: a number as the loss, a name as it is, None not at all.
    """

    def __init__(self, quiet: bool, unit: str = "step") -> None:
        self.quiet, self.unit = quiet, unit
        self.bar: tqdm | None = None

    def __enter__(self) -> StepBar:
        return self

    def __call__(self, done: int, of: int, what: float | str | None = None) -> None:
        if self.bar is None:
            from tqdm import tqdm

            # tqdm shows nothing where `disable` is None and stderr is not a terminal.
            self.bar = tqdm(total=of, unit=self.unit, disable=True if self.quiet else None, dynamic_ncols=True)
        if self.bar.disable:
            return
        if what is not None:
            self.bar.set_postfix_str(what if isinstance(what, str) else f"loss {what:.3g}", refresh=False)
        self.bar.update(done - self.bar.n)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()
