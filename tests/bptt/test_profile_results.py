"""What a profile can do: frames, figures, files and its certificate."""

import math
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from rnnvg import GradientProfile, InputError, gradient_profile
from rnnvg.bptt import Diagonal, plots


def lstm_profile(**asked) -> GradientProfile:
    torch.manual_seed(0)
    module = nn.LSTM(2, 3, num_layers=2, dtype=torch.float64)
    return gradient_profile(module, torch.randn(12, 4, 2, dtype=torch.float64), **asked)


# frames, figures and files ----------------------------------------------------------------------------------------------


def test_to_frame_is_tidy():
    profile = lstm_profile(sources=[4, 11], lengths=[12, 6, 12, 3])
    frame = profile.to_frame()
    assert list(frame.columns) == ["source", "distance", "sequence", "log_norm"]
    assert len(frame) == (~np.isnan(profile.log_norm)).sum()
    for row in frame.sample(30, random_state=0).itertuples():
        s = list(profile.sources).index(row.source)
        assert row.log_norm == profile.log_norm[s, row.distance, row.sequence]
    zero = gradient_profile(Diagonal(), torch.zeros(4, 1, 1, dtype=torch.float64)).to_frame()
    assert (zero["log_norm"] == -np.inf).sum() == 4


def test_plot_of_one_source_is_the_curve():
    profile = lstm_profile()
    figure, ax = plt.subplots()
    try:
        assert profile.plot(ax=ax) is ax
        curve = profile.curve()
        seen = curve["n"] > 0
        drawn = [line.get_xydata() for line in ax.lines]
        in_log10 = [line for line in drawn if np.allclose(line[-1], [12, curve["log10_gain"].iloc[-1]])]
        assert in_log10
        np.testing.assert_allclose(
            in_log10[0][~np.isnan(in_log10[0][:, 1])], curve.loc[seen, ["distance", "log10_gain"]], rtol=1e-12
        )
        assert ax.get_xlabel() == "distance back from the loss (time steps)"
        assert "log10" in ax.get_ylabel()
        assert "state" in ax.get_ylabel()
    finally:
        plt.close(figure)


def test_plot_of_many_sources_is_a_map():
    torch.manual_seed(1)
    module = nn.GRU(2, 3, dtype=torch.float64)
    profile = gradient_profile(module, torch.randn(40, 2, 2, dtype=torch.float64), sources="all", wrt="hidden")
    ax = profile.plot()
    try:
        assert isinstance(ax, plt.Axes)
        (mesh,) = ax.collections
        drawn = np.ma.filled(np.ma.masked_invalid(mesh.get_array()), np.nan).reshape(40, 40)
        mean = profile.log_gain().mean(axis=2) / math.log(10)
        expected = np.full((40, 40), np.nan)
        for source in range(40):
            for k in range(1, source + 1):
                expected[source, source - k] = mean[source, k]
        np.testing.assert_allclose(drawn, expected, rtol=1e-12)
        assert ax.get_xlabel() == "time step reached"
        assert ax.get_ylabel() == "step of the loss (source)"
    finally:
        plt.close(ax.figure)


def test_plot_makes_its_own_axes_and_leaves_the_settings_alone():
    before = dict(plt.rcParams)
    ax = lstm_profile().plot()
    plt.close(ax.figure)
    assert dict(plt.rcParams) == before


@pytest.mark.parametrize("asked", [{"sources": "all", "lengths": [12, 6, 12, 3]}, {"wrt": "cell", "layer": 1}])
def test_save_and_load(tmp_path, asked):
    profile = lstm_profile(**asked)
    profile.save(tmp_path / "profile.npz")
    loaded = GradientProfile.load(tmp_path / "profile.npz")
    for name in ("log_norm", "sources", "distance", "first_nonfinite"):
        before, after = getattr(profile, name), getattr(loaded, name)
        np.testing.assert_array_equal(after, before)
        assert after.dtype == before.dtype
    assert (loaded.wrt, loaded.layer) == (profile.wrt, profile.layer)
    pd.testing.assert_frame_equal(loaded.curve(), profile.curve())
    message = "This profile was loaded from a file, without the recurrence it was made from; measure it again."
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        loaded.verify()


def test_load_refuses_what_is_not_a_profile(tmp_path):
    missing = tmp_path / "missing.npz"
    with pytest.raises(InputError, match=re.escape(f"`path` '{missing}' is not a file")):
        GradientProfile.load(missing)
    np.savez(tmp_path / "other.npz", a=1)
    (tmp_path / "junk.npz").write_text("junk")
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object))
    for name in ("other.npz", "junk.npz", "pickled.npy"):
        with pytest.raises(InputError, match=r"is not a profile that GradientProfile\.save wrote"):
            GradientProfile.load(tmp_path / name)


# verify -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrt", ["state", "hidden", "cell", "input"])
def test_verify_agrees_with_autograd(wrt):
    certificate = lstm_profile(sources=[3, 11], wrt=wrt, lengths=[12, 6, 12, 3]).verify(20)
    assert certificate.residual < 1e-9
    assert certificate.dtype == "float64"
    assert set(certificate.weights) == {name for name, _ in nn.LSTM(2, 3, num_layers=2).named_parameters()}
    assert max(certificate.weights.values()) < 1e-9
    frame = certificate.to_frame()
    assert list(frame.columns) == ["source", "distance", "sequence", "log_norm", "reference"]
    assert 0 < len(frame) <= 20
    for row in frame.itertuples():
        assert row.log_norm == pytest.approx(row.reference, abs=1e-9)
    assert "float64" in str(certificate)


def test_verify_sees_a_wrong_profile():
    profile = lstm_profile(sources="all")
    profile.log_norm[:] += 0.01  # one per cent too large
    assert profile.verify().residual == pytest.approx(0.01, rel=0.05)


def test_verify_of_cells_steps_and_diagonals():
    torch.manual_seed(5)
    inputs = torch.randn(8, 2, 3, dtype=torch.float64)
    state = torch.zeros(2, 3, dtype=torch.float64)
    cell = nn.GRUCell(3, 4, dtype=torch.float64)
    assert gradient_profile(cell, inputs).verify().residual < 1e-9
    assert gradient_profile(lambda x, h: torch.sin(x * h + x), inputs, state).verify().residual < 1e-9
    assert gradient_profile(Diagonal(), torch.sigmoid(inputs)).verify().residual < 1e-9


def test_verify_leaves_out_what_autograd_cannot_represent():
    profile = gradient_profile(Diagonal(), torch.full((400, 1, 1), 1e-6, dtype=torch.float64))
    certificate = profile.verify(12)
    assert certificate.skipped > 0
    assert certificate.residual < 1e-9


# signed distance --------------------------------------------------------------------------------------------------------


def signed_profile() -> GradientProfile:
    """Two sources, two sequences, distances -2 to 3; a gain of 1/2 a step into the past and 1/10 into the future."""
    distance = np.arange(-2, 4)
    one = np.where(distance >= 0, distance * math.log(0.5), -distance * math.log(0.1))
    log_norm = np.broadcast_to(one[None, :, None] + np.array([0.0, 3.0])[None, None, :], (2, 6, 2)).copy()
    log_norm[0, -1], log_norm[1, 0] = np.nan, np.nan
    return GradientProfile(log_norm, np.array([1, 2]), distance, "input", note="Sees the future.")


def test_signed_distances_have_a_reference_on_either_side():
    profile = signed_profile()
    curve = profile.curve().set_index("distance")
    np.testing.assert_allclose(curve.loc[[1, 2, 3], "log10_gain"] * math.log(10), np.log([1, 0.5, 0.25]), atol=1e-12)
    np.testing.assert_allclose(curve.loc[[-1, -2], "log10_gain"] * math.log(10), np.log([0.2, 0.02]), atol=1e-12)
    assert math.isnan(curve.loc[0, "log10_gain"])
    assert list(curve["n"]) == [2, 4, 0, 4, 4, 2]
    backwards = profile.log_gain(reference=-1)
    np.testing.assert_allclose(backwards[0, :2, 0], [math.log(0.1), 0], atol=1e-12)
    assert np.isnan(backwards[:, 2]).all()
    assert (str(profile.horizon()), str(profile.horizon(0.3))) == ("2", "2")
    assert str(profile.horizon(0.2)) == "> 3"
    assert str(profile.horizon(0.2, reference=-1)) == "1"
    with pytest.raises(InputError, match=r"^`reference` must be a whole number from -2 to 3; got -3\.$"):
        profile.log_gain(-3)


def test_signed_distances_in_frames_files_and_figures(tmp_path):
    profile = signed_profile()
    assert sorted(profile.to_frame()["distance"].unique()) == [-2, -1, 0, 1, 2, 3]
    profile.save(tmp_path / "signed.npz")
    loaded = GradientProfile.load(tmp_path / "signed.npz")
    np.testing.assert_array_equal(loaded.distance, profile.distance)
    assert loaded.note == "Sees the future."
    pd.testing.assert_frame_equal(loaded.curve(), profile.curve())
    ax = profile.plot()
    assert ax.get_xlabel() == "distance back from the loss (time steps; negative: the future)"
    assert ax.lines[0].get_xdata().min() == -2
    np.savez(
        tmp_path / "old.npz", log_norm=np.zeros((1, 3, 1)), sources=[1], wrt="state", layer=-1, first_nonfinite=[-1]
    )
    old = GradientProfile.load(tmp_path / "old.npz")
    assert (list(old.distance), old.note) == ([0, 1, 2], "")


def test_the_map_places_what_lies_in_the_future():
    found = signed_profile()
    drawn = plots.draw_map(found.log_norm, 1, found.sources, found.distance, found.wrt).collections[0].get_array()
    drawn = np.ma.filled(np.ma.masked_invalid(drawn), np.nan).reshape(2, 5)
    with np.errstate(invalid="ignore"):
        expected = np.log10([[0.5 / 0.5, np.nan, 0.2, 0.02, np.nan], [0.5, 1, np.nan, 0.2, np.nan]])
    np.testing.assert_allclose(drawn, expected, atol=1e-12)
