"""Advice from trials made by hand: three seeds, base horizons 1, 3, 7 at the start."""

from rnnvg.advise.advice import Advice
from rnnvg.advise.settings import settings

CAUSE = {"cause": "recurrent matrix", "nats": -40.0, "steps": 40, "parts": {}, "sentence": "over 40 steps: ..."}
EQUAL = {"norm": 2.0, "factor": 0.1, "cosine": 1.0, "largest_difference": 1e-15, "log_horizon_change": 0.0}


def horizon(last, censored=False, rate=-0.1):
    return {"rate": rate, "last": last, "first_below": None if censored else last + 1, "censored": censored}


def trial(remedy, seed, start, end, solved_at=None, value=0.16, status="ok", **rest):
    return {
        "remedy": remedy,
        "seed": seed,
        "predicted": -0.5,
        "start": start,
        "end": end,
        "status": status,
        "reason": "",
        "steps": 100,
        "solved_at": solved_at,
        "metric": "mse",
        "value": value,
        "seconds": 1.0,
        **rest,
    }


def made(**changed):
    """Three seeds; base horizons 1, 3, 7 at the start."""
    found = {
        "none": [trial("none", s, horizon(last), horizon(last), cause=CAUSE) for s, last in enumerate((1, 3, 7))],
        "orthogonal": [trial("orthogonal", s, horizon(last), None) for s, last in enumerate((3, 7, 31))],
        "identity-relu": [
            trial("identity-relu", s, horizon(40, True), horizon(40, True), value=0.15) for s in range(3)
        ],
        "clipping": [
            trial("clipping", s, horizon(last), horizon(last), equal_weights=EQUAL) for s, last in enumerate((1, 3, 7))
        ],
        "gated-cell": [trial("gated-cell", s, horizon(2), horizon(20), 50 * (s + 1), 0.001) for s in range(3)],
        "exploding": [trial("exploding", s, horizon(40, True), None, value=None, status="diverged") for s in range(3)],
        "exploding-clipped": [
            trial("exploding-clipped", s, horizon(40, True), horizon(9), value=0.2) for s in range(3)
        ],
    } | changed
    shared = settings({"name": "adding", "length": 10}, hidden=4, steps=200)
    left = {"chrono": "needs gates: take an LSTM or a GRU first"}
    return Advice(shared, 3, tuple(each for trials in found.values() for each in trials), left)
