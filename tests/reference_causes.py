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


def path_gradients(
    kind: str, layers: list[dict[str, Tensor]], x: Tensor, states: list[tuple[Tensor, Tensor | None]], adjoint: Tensor
) -> dict[str, Tensor]:
    """What each path of one gated step brings back, [B, N]: the step is given a copy of h (and c) for each of them.

    `states` before the step and `adjoint` [B, N] of the state after it, layer by layer, h before c.
    """
    names = {
        "lstm": ("input gate", "forget gate", "candidate", "output gate", "cell"),
        "gru": ("reset gate", "update gate", "candidate", "carry"),
    }[kind]
    copies, after = [], []
    for weights, (h, c) in zip(layers, states, strict=True):
        own = {name: (c if name == "cell" else h).clone().requires_grad_() for name in names}
        blocks = 4 if kind == "lstm" else 3
        zero = torch.zeros((), dtype=x.dtype)
        from_x = (x @ weights["weight_ih"].t() + weights.get("bias_ih", zero)).chunk(blocks, -1)
        bias = weights.get("bias_hh", torch.zeros(len(weights["weight_hh"]), dtype=x.dtype)).chunk(blocks)
        from_h = [
            own[name] @ weight.t() + b
            for name, weight, b in zip(names, weights["weight_hh"].chunk(blocks), bias, strict=False)
        ]
        if kind == "lstm":
            i, f, g, o = (a + b for a, b in zip(from_x, from_h, strict=True))
            cell = torch.sigmoid(f) * own["cell"] + torch.sigmoid(i) * torch.tanh(g)
            hidden = torch.sigmoid(o) * torch.tanh(cell)
            hidden = hidden @ weights["weight_hr"].t() if "weight_hr" in weights else hidden
            after += [hidden, cell]
        else:
            z = torch.sigmoid(from_x[1] + from_h[1])
            new = torch.tanh(from_x[2] + torch.sigmoid(from_x[0] + from_h[0]) * from_h[2])
            # z's own path through "carry - n" belongs to the update gate: its factor h is a constant there.
            hidden = (1 - z) * new + z * h + z.detach() * (own["carry"] - own["carry"].detach())
            after += [hidden]
        copies.append(own)
        x = hidden
    (torch.cat(after, -1) * adjoint).sum().backward()
    found = {}
    for name in names:
        blocks = []
        for own, (h, c) in zip(copies, states, strict=True):
            at_c = name == "cell"
            blocks.append(torch.zeros_like(h) if at_c else own[name].grad)
            if c is not None:
                blocks.append(own[name].grad if at_c else torch.zeros_like(c))
        found[name] = torch.cat(blocks, -1)
    return found


def _with_factor_1(gate: Tensor, value: Tensor) -> Tensor:
    """gate * value, with the derivative of value alone."""
    return value + (gate * value - value).detach()


def changed_step(kind: str, weights: dict[str, Tensor], x: Tensor, h: Tensor, c: Tensor | None, change: str):
    """One step with the same values as `cell_step` and another derivative; -> (h, c)."""

    def squash(z: Tensor) -> Tensor:
        return z + (torch.tanh(z) - z).detach() if change == "tanh slopes 1" else torch.tanh(z)

    def gate(z: Tensor) -> Tensor:
        return torch.sigmoid(z).detach() if change in ("gates held", "all gates open") else torch.sigmoid(z)

    def times(value: Tensor, factor: Tensor, name: str) -> Tensor:
        return _with_factor_1(factor, value) if change in ("all gates open", name) else factor * value

    zero = torch.zeros((), dtype=x.dtype)
    from_x = x @ weights["weight_ih"].t() + weights.get("bias_ih", zero)
    from_h = h @ weights["weight_hh"].t() + weights.get("bias_hh", zero)
    if kind == "tanh":
        return squash(from_x + from_h), None
    if kind == "relu":
        z = from_x + from_h
        return z + (torch.relu(z) - z).detach(), None
    if kind == "lstm":
        i, f, g, o = (from_x + from_h).chunk(4, -1)
        c = times(c, gate(f), "forget gate open") + times(squash(g), gate(i), "")
        h = times(squash(c), gate(o), "")
        return (h @ weights["weight_hr"].t() if "weight_hr" in weights else h), c
    (xr, xz, xn), (hr, hz, hn) = from_x.chunk(3, -1), from_h.chunk(3, -1)
    z = gate(xz + hz)
    new = squash(xn + times(hn, gate(xr + hr), "reset gate open"))
    return times(new, 1 - z, "") + times(h, z, ""), None


def changed_log_norms(module: nn.Module, inputs: Tensor, covector: Tensor, change: str) -> np.ndarray:
    """ln ||dL/ds|| at each distance under `changed_step`, [T+1, B], L = covector . output at the last step. Zero state."""
    kind, layers = kind_of(module), layer_weights(module)
    states = []
    for weights in layers:
        cell = len(weights["weight_hh"]) // 4 if kind == "lstm" else 0
        h = inputs.new_zeros(inputs.shape[1], weights["weight_hh"].shape[1])
        states.append([h, inputs.new_zeros(inputs.shape[1], cell) if cell else None])

    def step(x, states):
        after = []
        for weights, (h, c) in zip(layers, states, strict=True):
            after.append(changed_step(kind, weights, x, h, c, change))
            x = after[-1][0]
        return after

    def parts(states):
        return [part for pair in states for part in pair if part is not None]

    kept = [states]
    for x in inputs:
        kept.append(step(x, kept[-1]))
    adjoint = [torch.zeros_like(part) for part in parts(kept[-1])]
    adjoint[-2 if kind == "lstm" else -1] = covector
    rows = [torch.cat(adjoint, -1).norm(dim=-1).log()]
    for x, states in zip(reversed(inputs), reversed(kept[:-1]), strict=True):
        before = [[None if part is None else part.clone().requires_grad_() for part in pair] for pair in states]
        adjoint = list(torch.autograd.grad(parts(step(x, before)), parts(before), adjoint))
        rows.append(torch.cat(adjoint, -1).norm(dim=-1).log())
    return torch.stack(rows).numpy()
