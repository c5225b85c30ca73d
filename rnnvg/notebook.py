"""How results show themselves: one line at a prompt, their figure and table in a notebook."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from rnnvg.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

ROWS = 10  # of a table in a notebook; to_frame() has all of them


class Shown:
    """A result whose str() is a sentence: repr() is its name and the first line of that, `_repr_html_` the figure and table.

    A dataclass that inherits this passes repr=False, or keeps the repr of its fields where they fit on a line.
    """

    def __repr__(self) -> str:
        first, *more = str(self).splitlines() or [""]
        return f"{type(self).__name__}({first}{' ...' if more else ''})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the sentence, the curve where there is one, the first rows of the table."""
        lines = "<br>".join(html.escape(line) for line in str(self).splitlines())
        parts = [f"<p><b>{type(self).__name__}</b> {lines}</p>", self._figure(), self._rows()]
        return f"<div>{''.join(parts)}</div>"

    def _table(self) -> pd.DataFrame:
        """The table of the notebook: `to_frame()`, or a row of the fields that are one value."""
        import pandas as pd

        frame: Any = getattr(self, "to_frame", None)
        if frame is not None:
            return frame()
        every: Any = self
        values = {each.name: getattr(self, each.name) for each in fields(every)}
        plain = (int, float, str, type(None))
        return pd.DataFrame([{name: value for name, value in values.items() if isinstance(value, plain)}])

    def _figure(self) -> str:
        plot: Any = getattr(self, "plot", None)
        if plot is None:
            return ""
        try:
            figure = plot().figure
        except InputError as error:  # nothing that could be drawn
            return f"<p>{html.escape(str(error))}</p>"
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        data = base64.b64encode(buffer.getvalue()).decode()
        alt = html.escape(f"{type(self).__name__}: {str(self).splitlines()[0]}", quote=True)
        return f'<img alt="{alt}" src="data:image/svg+xml;base64,{data}" style="max-width:100%">'

    def _rows(self) -> str:
        frame = self._table()
        table = frame.head(ROWS).to_html(index=False, border=0, float_format="{:.4g}".format)
        more = len(frame) - ROWS
        return f"{table}<p>{more} more rows in the table.</p>" if more > 0 else table
