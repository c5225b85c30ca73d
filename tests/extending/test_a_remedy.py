"""A remedy is one new file and a place in a list: applied, paired, measured, drawn and named like the others."""

import pytest
import remedy_stretched

from rnnvg import InputError
from rnnvg.advise import REMEDIES, advise
from rnnvg.report import advise_page, style


@pytest.fixture(autouse=True)
def listed(monkeypatch):
    monkeypatch.setitem(REMEDIES, "stretched", remedy_stretched.REMEDY)


def test_it_is_applied_and_measured_like_the_others():
    found = advise(
        {"name": "adding", "length": 8}, "rnn", hidden=8, steps=4, seeds=2, remedies=["orthogonal", "stretched"]
    )
    base, orthogonal, stretched = found.effects()
    assert (base.remedy, orthogonal.remedy, stretched.remedy) == ("none", "orthogonal", "stretched")
    assert stretched.predicted is None
    assert stretched.measured > orthogonal.measured > base.measured
    assert stretched.aims_at_cause
    assert stretched.paired["start"].n == 2
    assert "Orthogonal recurrent matrix times 1.1: " in str(found)
    assert found.to_frame()["remedy"].tolist() == ["none", "orthogonal", "stretched"]
    with style.applied():
        figure = advise_page.draw(found)
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()][2].startswith(
        "orthogonal recurrent matrix times"
    )


def test_it_is_refused_where_it_does_not_fit():
    with pytest.raises(InputError, match="`remedies` 'stretched' is for tanh units without gates; got cell 'lstm'"):
        advise({"name": "adding", "length": 8}, "lstm", hidden=8, steps=1, seeds=2, remedies=["stretched"])
    found = advise({"name": "adding", "length": 8}, "gru", hidden=4, steps=1, seeds=2)
    assert found.left_out["stretched"] == "is for tanh units without gates"
