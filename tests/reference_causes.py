"""Slow, obviously right versions of what says why a gradient vanishes: weights of their own for every step, Jacobians written
out, products multiplied with as many digits as they need."""

from __future__ import annotations

import mpmath
import numpy as np
import torch
from torch import Tensor, nn


def cell_step(kind: str, weights: dict[str, Tensor], x: Tensor, h: Tensor, c: Tensor | None):
    """One step of one layer by PyTorch's documented equations; -> (h, c). `kind`: tanh, relu, lstm or gru."""
    zero = torch.zeros((), dtype=x.dtype)
    from_x = x @ weights["weight_ih"].t() + weights.get("bias_ih", zero)
    from_h = h @ weights["weight_hh"].t() + weights.get("bias_hh", zero)
    if kind in ("tanh", "relu"):
        return (torch.tanh if kind == "tanh" else torch.relu)(from_x + from_h), None
    if kind == "lstm":
        i, f, g, o = (from_x + from_h).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return (h @ weights["weight_hr"].t() if "weight_hr" in weights else h), c
    (xr, xz, xn), (hr, hz, hn) = from_x.chunk(3, -1), from_h.chunk(3, -1)
    z = torch.sigmoid(xz + hz)
    return (1 - z) * torch.tanh(xn + torch.sigmoid(xr + hr) * hn) + z * h, None


def kind_of(module: nn.Module) -> str:
    if isinstance(module, (nn.LSTM, nn.LSTMCell)):
        return "lstm"
    return "gru" if isinstance(module, (nn.GRU, nn.GRUCell)) else module.nonlinearity


def layer_weights(module: nn.Module) -> list[dict[str, Tensor]]:
    """Per layer, "weight_ih" and so on -> parameter, detached."""
    layers: dict[str, dict[str, Tensor]] = {}
    for name, parameter in module.named_parameters():
        kind, _, index = name.partition("_l")
        layers.setdefault(index, {})[kind] = parameter.detach()
    return list(layers.values())


def per_step_gradients(module: nn.Module, inputs: Tensor, output_grad: Tensor, state_grads=None) -> dict[str, Tensor]:
    """d+L/dW|_t for every parameter, [T, *shape], by giving every step weights of its own. Time first, zero state."""
    kind, layers = kind_of(module), layer_weights(module)
    n_layers, hidden = len(layers), layers[0]["weight_hh"].shape[1]
    cell = layers[0]["weight_hh"].shape[0] // 4 if kind == "lstm" else 0
    states = [(inputs.new_zeros(inputs.shape[1], hidden), inputs.new_zeros(inputs.shape[1], cell)) for _ in layers]
    own: list[list[dict[str, Tensor]]] = []
    loss = inputs.new_zeros(())
    for t, x in enumerate(inputs):
        own.append([{name: w.clone().requires_grad_() for name, w in layer.items()} for layer in layers])
        for index in range(n_layers):
            h, c = cell_step(kind, own[t][index], x, *states[index])
            states[index] = (h, c)
            x = h
        loss = loss + (x * output_grad[t]).sum()
        if state_grads and t in state_grads:
            whole = torch.cat([part for pair in states for part in pair if part is not None], -1)
            loss = loss + (whole * state_grads[t]).sum()
    loss.backward()
    suffix = "" if isinstance(module, nn.RNNCellBase) else "_l{}"
    return {
        name + suffix.format(index): torch.stack([own[t][index][name].grad for t in range(len(inputs))])
        for index, layer in enumerate(layers)
        for name in layer
    }


def step_jacobians(module: nn.Module, inputs: Tensor) -> np.ndarray:
    """Explicit J_t of the whole state (layer by layer, h before c) for one sequence from the zero state, [T, N, N]."""
    kind, layers = kind_of(module), layer_weights(module)
    widths = [(w["weight_hh"].shape[1], w["weight_hh"].shape[0] // 4 if kind == "lstm" else 0) for w in layers]
    sizes = [width for pair in widths for width in pair if width]

    def step(x: Tensor, state: Tensor) -> Tensor:
        parts = iter(state.split(sizes, -1))
        after = []
        for weights, (_, cell) in zip(layers, widths, strict=True):
            h, c = cell_step(kind, weights, x, next(parts), next(parts) if cell else None)
            after += [h] if c is None else [h, c]
            x = h
        return torch.cat(after, -1)

    state, found = inputs.new_zeros(1, sum(sizes)), []
    for x in inputs[:, :1]:
        jacobian = torch.autograd.functional.jacobian(lambda s, x=x: step(x, s), state)
        found.append(jacobian.reshape(state.shape[1], -1).numpy())
        state = step(x, state)
    return np.stack(found)


def naive_exponents(jacobians: np.ndarray, frame: np.ndarray, burn_in: int = 0) -> np.ndarray:
    """Mean ln |R_ii| over QR factorisations at every step, from the frame [N, n], in the order of time."""
    logs = []
    for jacobian in jacobians:
        frame, r = np.linalg.qr(jacobian @ frame)
        logs.append(np.log(np.abs(np.diag(r))))
    return np.mean(logs[burn_in:], axis=0)


def product_singular_values(jacobians: np.ndarray, digits: int) -> np.ndarray:
    """ln of the singular values of J_T ... J_1, multiplied out with so many digits, largest first."""
    with mpmath.workdps(digits):
        product = mpmath.eye(jacobians.shape[1])
        for jacobian in jacobians:
            product = mpmath.matrix(jacobian.tolist()) * product
        values = mpmath.svd_r(product, compute_uv=False)
        return np.array(sorted((float(mpmath.log(value)) for value in values), reverse=True))
