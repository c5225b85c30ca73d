"""Remedies of recurrent and of deep networks are of one kind: changes to settings by dotted name."""

import pytest

from rnnvg import advise
from rnnvg.depth import remedies as depth
from rnnvg.training.remedy import Base, Remedy, changed


def test_a_change_leaves_the_settings_that_it_is_made_to():
    settings = {"init": "default", "training": {"lr": 1.0, "checkpoints": [0]}}
    found = changed(settings, {"training.lr": 0.1, "gain": 2.0})
    found["training"]["checkpoints"].append(5)
    assert found == {"init": "default", "training": {"lr": 0.1, "checkpoints": [0, 5]}, "gain": 2.0}
    assert settings == {"init": "default", "training": {"lr": 1.0, "checkpoints": [0]}}


def test_a_change_to_a_part_that_is_not_there_is_no_silent_setting():
    with pytest.raises(KeyError, match="trainning"):
        changed({"training": {}}, {"trainning.lr": 0.1})


@pytest.mark.parametrize("table", [advise.REMEDIES, depth.REMEDIES], ids=["recurrent", "deep"])
def test_every_remedy_is_of_one_kind_and_changes_something_else(table):
    base = Base(t_max=50, lr=0.01, steps=100)
    changes = {name: dict(remedy.changes(base)) for name, remedy in table.items()}
    assert all(type(remedy) is Remedy and remedy.name == name for name, remedy in table.items())
    assert [name for name, each in changes.items() if not each] == ["none"]
    assert len({str(sorted(each.items())) for each in changes.values()}) == len(table)
