"""What is drawn and kept grows with what can be seen, not with the measurement; and it is the same picture."""

import tracemalloc

import numpy as np
import pytest
import torch

from rnnvg.bptt import GradientProfile, curves, plots, temporal_contributions
from rnnvg.bptt.entries import WAITING_STEPS, Summed
from rnnvg.bptt.linearize import linearize
from rnnvg.bptt.why import rank_one
from rnnvg.horizon import NATS_PER_DECADE


def profile(sources, steps, sequences=1, seed=0):
    at = np.round((np.arange(sources) + 1) * steps / sources).astype(int) - 1
    distance = np.arange(steps + 1)
    noise = np.random.default_rng(seed).standard_normal((sources, steps + 1, sequences))
    log_norm = -0.01 * distance[None, :, None] + 0.1 * noise
    log_norm[distance[None, :] > at[:, None] + 1] = np.nan
    return GradientProfile(log_norm, at, distance, "state")


def image(ax):
    return next(each for each in ax.collections if each.get_array() is not None)


def test_a_map_of_many_sources_has_as_many_cells_as_a_picture_has_dots():
    found = profile(1500, 1500)
    cells = image(found.plot()).get_array()
    assert cells.shape == (plots.MAP_CELLS, plots.MAP_CELLS)
    gain = found.log_gain()[:, :, 0] / np.log(10)
    edges = np.linspace(0, 1500, plots.MAP_CELLS + 1).astype(int)
    for row, column in ((0, 0), (300, 100), (639, 0), (639, 639), (500, 250)):
        every = [
            gain[source, found.sources[source] - step]
            for source in range(edges[row], edges[row + 1])
            for step in range(edges[column], edges[column + 1])
            if step <= found.sources[source]
        ]
        every = np.array(every)[np.isfinite(every)] if every else np.array([])
        if every.size:
            assert cells[row, column] == pytest.approx(every.mean(), rel=1e-12)
        else:
            assert np.ma.is_masked(cells[row, column])


def test_a_map_of_few_sources_has_a_cell_for_each():
    found = profile(30, 60, 2)
    cells = image(found.plot()).get_array()
    mean = found.log_gain().mean(2) / np.log(10)
    assert cells.shape == (30, 60)
    assert cells[20, 10] == pytest.approx(mean[20, found.sources[20] - 10], rel=1e-14)


def peak_of(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_map_takes_no_second_copy_of_the_profile():
    few, many = profile(800, 800), profile(800, 800, 8)
    profile(24, 24).plot()
    assert peak_of(many.plot) - peak_of(few.plot) < many.log_norm.nbytes / 10


def test_of_a_long_curve_each_stretch_shows_its_extremes():
    found = profile(1, 200_000)
    ax = found.plot()
    x, y = ax.lines[0].get_data()
    assert len(x) <= 3 * 2 * plots.CURVE_STRETCHES + 2
    curve = found.curve()
    whole = curve["log10_gain"].to_numpy()
    drawn = dict(zip(x, y, strict=True))
    assert all(drawn[k] == whole[k] for k in (200_000, int(np.nanargmin(whole)), int(np.nanargmax(whole))))


def test_where_a_long_curve_is_interrupted_its_line_is():
    values = np.linspace(0, -5, 50_000)
    values[20_000:20_010] = np.nan
    seen = plots.seen_points(values)
    assert np.isnan(values[seen]).sum() >= 1
    assert len(plots.seen_points(values[: 4 * plots.CURVE_STRETCHES])) == 4 * plots.CURVE_STRETCHES
    log = plots.seen_points(values, log=True)
    assert (log[:30] == np.arange(30)).all()  # the first decades are as wide as the last


@pytest.mark.parametrize("sequences", [1, 2, 7, 32])
def test_the_quantiles_of_a_curve_are_numpys(sequences):
    found = profile(3, 40, sequences, seed=sequences)
    found.log_norm[np.random.default_rng(1).random(found.log_norm.shape) < 0.2] = np.nan
    found.log_norm[:, 7] = -np.inf
    gain, curve = found.log_gain(), found.curve()
    for k in range(41):
        seen = gain[:, k][~np.isnan(gain[:, k])]
        wanted = np.quantile(seen, [0.1, 0.9], method="inverted_cdf") if seen.size else np.full(2, np.nan)
        # Equal where the same number divides: NumPy's own log(10) is one unit in the last place off with AVX-512.
        np.testing.assert_array_equal(curve.loc[k, ["low", "high"]].to_numpy(float), wanted / NATS_PER_DECADE)
        assert curve["n"][k] == seen.size
        assert curve["n_zero"][k] == np.isneginf(seen).sum()


def test_a_curve_in_pieces_is_the_curve(monkeypatch):
    found = profile(5, 300, 3)
    found.log_norm[:, 40:60] = -np.inf
    whole, mean = found.curve(), found.mean_log_gain()
    monkeypatch.setattr(curves, "PIECE", 50)
    assert found.curve().equals(whole)
    np.testing.assert_array_equal(found.mean_log_gain(), mean)
    np.testing.assert_array_equal(mean, curves.mean_log_gain(found.log_gain()))


def test_a_horizon_takes_no_copy_of_the_gains():
    found = profile(200, 2000, 4)
    found.horizon()
    assert peak_of(found.horizon) < found.log_norm.nbytes / 2 + 12 * 8 * curves.PIECE


@pytest.mark.parametrize(("sequences", "makes"), [(1, False), (3, False), (40, True)])
def test_contributions_of_few_sequences_make_no_matrix_a_step(sequences, makes, monkeypatch):
    made = []
    products = rank_one._products
    monkeypatch.setattr(rank_one, "_products", lambda *pair: made.append(pair[0].shape) or products(*pair))
    torch.manual_seed(0)
    module, inputs = torch.nn.LSTM(40, 30, bias=False, dtype=torch.float64), torch.randn(50, sequences, 40).double()
    found = temporal_contributions(module, inputs, output_grad=torch.randn(50, sequences, 30).double())
    assert bool(made) == makes
    assert max(found.verify().weights.values()) < 1e-12


def test_contributions_that_cancel_between_sequences_are_as_accurate():
    torch.manual_seed(0)
    module, inputs = torch.nn.GRU(40, 40, dtype=torch.float64), torch.randn(30, 1, 40).double().repeat(1, 2, 1)
    grad = torch.randn(30, 1, 40).double()
    found = temporal_contributions(module, inputs, output_grad=torch.cat([grad, -grad * (1 - 2**-20)], 1))
    alone = temporal_contributions(module, inputs[:, :1], output_grad=grad)
    for name in found.names:
        np.testing.assert_allclose(found.log_norm[name], alone.log_norm[name] - 20 * np.log(2), rtol=0, atol=1e-8)
        np.testing.assert_allclose(found.cosine[name][1:], alone.cosine[name][1:], rtol=0, atol=1e-8)


def test_direct_gradients_are_found_in_whatever_order_steps_are_asked_for():
    torch.manual_seed(0)
    linear = linearize(torch.nn.GRU(2, 3), torch.randn(3 * WAITING_STEPS, 1, 2))
    grad = torch.randn(3 * WAITING_STEPS, 1, 3)
    in_order, back_and_forth = Summed(linear, grad, {}), Summed(linear, grad, {})
    wanted = {t: in_order(t)[0] for t in reversed(range(3 * WAITING_STEPS))}
    for t in (383, 256, 255, 128, 127, 383, 0, 300, 129):
        (found,) = back_and_forth(t)
        assert torch.equal(found.log, wanted[t].log)
        assert torch.equal(found.vectors, wanted[t].vectors)


@pytest.mark.parametrize("steps", [127, 129, 1000])
def test_contributions_of_any_length_add_up(steps):
    torch.manual_seed(0)
    module, inputs = torch.nn.LSTM(4, 8, dtype=torch.float64), torch.randn(steps, 2, 4).double()
    grad = torch.zeros(steps, 2, 8).double()
    grad[-1] = 1
    assert max(temporal_contributions(module, inputs, output_grad=grad).verify().weights.values()) < 1e-10
