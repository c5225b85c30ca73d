"""A training step that was watched, as the profile reads it."""

import torch
from torch.nn.utils.rnn import pack_padded_sequence

import rnnvg
from rnnvg.bptt.passes import chosen_passes
from rnnvg.bptt.sequences import collected, reached_chains


def watched(module, steps, batch=3, lengths=None, ends=False, snapshot=False):
    """What a recorder saw, the plain module of it, and its calls as one batch; the loss is on the outputs, and on the final
    states too with `ends`."""
    dtype = module.weight_ih_l0.dtype
    x = torch.randn(steps, batch, module.input_size, dtype=dtype, generator=torch.Generator().manual_seed(1))
    with rnnvg.watch(module, snapshot=snapshot) as watcher:
        given = x if lengths is None else pack_padded_sequence(x, lengths, enforce_sorted=False)
        output, state = module(given)
        loss = (output if lengths is None else output.data).square().sum()
        if ends:
            loss = loss + sum((part * part.detach().cos()).sum() for part in (state if len(state) == 2 else [state]))
        loss.backward()
    recorder = next(iter(watcher.recorders.values()))
    chosen = chosen_passes(recorder, None)
    plain, found = collected(recorder, reached_chains(recorder, chosen), chosen)
    return recorder, plain, found
