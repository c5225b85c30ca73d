"""The papers' equations of modern recurrences, one plain step each: (parameters by name, x [B, I], state) -> state."""

import math

import torch
from torch.nn.functional import logsigmoid, softplus


def sigmoid(z):
    return 1 / (1 + torch.exp(-z))


def min_gru(p, x, s):
    H = p["bias_ih"].shape[0] // 2
    z = sigmoid(x @ p["weight_ih"][:H].T + p["bias_ih"][:H])
    return (1 - z) * s + z * (x @ p["weight_ih"][H:].T + p["bias_ih"][H:])


def min_lstm(p, x, s):
    H = p["bias_ih"].shape[0] // 3
    f, i, n = (x @ p["weight_ih"][k * H : k * H + H].T + p["bias_ih"][k * H : k * H + H] for k in range(3))
    f, i = sigmoid(f), sigmoid(i)
    return f / (f + i) * s + i / (f + i) * n


def lru(p, x, s):
    decay = torch.exp(-torch.exp(p["nu_log"]) + 1j * torch.exp(p["theta_log"]))
    b = p["b_re"] + 1j * p["b_im"]
    return decay * s + torch.exp(p["gamma_log"]) * torch.einsum("ni,bi->bn", b, x + 0j)


def s5(p, x, s):
    a, dt = -torch.exp(p["re_log"]) + 1j * p["im"], torch.exp(p["step_log"])
    decay = torch.exp(a * dt)
    return decay * s + (decay - 1) / a * torch.einsum("ni,bi->bn", p["b_re"] + 1j * p["b_im"], x + 0j)


def s4d(p, x, s):
    a = -torch.exp(p["re_log"]) + 1j * p["im"]
    rows = []
    for channel in range(a.shape[0]):
        decay = torch.exp(a[channel] * torch.exp(p["step_log"][channel]))
        part = s[:, channel * a.shape[1] : (channel + 1) * a.shape[1]]
        rows.append(decay * part + (decay - 1) / a[channel] * x[:, channel, None])
    return torch.cat(rows, 1)


def s6(p, x, s):
    D, N = p["a_log"].shape
    dt = softplus(x @ p["weight_low"].T @ p["weight_dt"].T + p["bias_dt"])
    b = x @ p["weight_b"].T
    rows = []
    for d in range(D):
        part = s[:, d * N : (d + 1) * N]
        rows.append(torch.exp(-dt[:, d, None] * torch.exp(p["a_log"][d])) * part + dt[:, d, None] * b * x[:, d, None])
    return torch.cat(rows, 1)


def gla(p, x, s):
    K, V = p["weight_k"].shape[0], p["weight_v"].shape[0]
    decay = sigmoid(x @ p["weight_a"].T + p["bias_a"]) ** (1 / 16)
    matrix = s.reshape(-1, K, V)
    new = torch.einsum("bk,bkv->bkv", decay, matrix) + torch.einsum(
        "bk,bv->bkv", x @ p["weight_k"].T, x @ p["weight_v"].T
    )
    return new.reshape(len(x), -1)


def delta_net(p, x, s):
    K, V = p["weight_k"].shape[0], p["weight_v"].shape[0]
    b, k, v = sigmoid(x @ p["weight_b"].T), x @ p["weight_k"].T, x @ p["weight_v"].T
    k = k / torch.sqrt((k * k).sum(-1, keepdim=True))
    forget = torch.eye(K, dtype=x.dtype) - b.unsqueeze(-1) * torch.einsum("bi,bj->bij", k, k)
    new = forget @ s.reshape(-1, K, V) + b.unsqueeze(-1) * torch.einsum("bk,bv->bkv", k, v)
    return new.reshape(len(x), -1)


def mlstm(p, x, s):
    K, V = p["weight_k"].shape[0], p["weight_v"].shape[0]
    gates = x @ p["weight_gates"].T + p["bias_gates"]
    i, f = torch.exp(gates[:, 0]), torch.exp(logsigmoid(gates[:, 1]))
    k, v = x @ p["weight_k"].T / math.sqrt(K), x @ p["weight_v"].T
    both = s.reshape(-1, K, V + 1)
    c = f[:, None, None] * both[..., :V] + i[:, None, None] * torch.einsum("bk,bv->bkv", k, v)
    n = f[:, None] * both[..., V] + i[:, None] * k
    return torch.cat([c, n.unsqueeze(-1)], -1).reshape(len(x), -1)


def slstm(p, x, state):
    h, c, n = state
    H = h.shape[1]

    def pre(k):
        rows = slice(k * H, k * H + H)
        return x @ p["weight_ih"][rows].T + h @ p["weight_hh"][rows].T + p["bias"][rows]

    z, i, f, o = torch.tanh(pre(0)), torch.exp(pre(1)), sigmoid(pre(2)), sigmoid(pre(3))
    c, n = f * c + i * z, f * n + i
    return o * (c / n), c, n


def lem(p, x, state, dt=1.0):
    y, z = state
    H = y.shape[1]

    def pre(k, recurrent):
        rows = slice(k * H, k * H + H)
        return x @ p["weight_ih"][rows].T + p["bias"][rows] + recurrent

    one, two = (dt * sigmoid(pre(k, y @ p["weight_y"][k * H : k * H + H].T)) for k in range(2))
    z = (1 - one) * z + one * torch.tanh(pre(2, y @ p["weight_y"][2 * H :].T))
    return (1 - two) * y + two * torch.tanh(pre(3, z @ p["weight_z"].T)), z


def cornn(p, x, state, dt=0.05, gamma=1.0, eps=1.0):
    y, z = state
    force = torch.tanh(y @ p["weight_y"].T + z @ p["weight_z"].T + x @ p["weight_ih"].T + p["bias"])
    z = z + dt * force - dt * gamma * y - dt * eps * z
    return y + dt * z, z
