"""Closed-form Jacobians of recurrent layers: one file a kind of layer, one set of methods for all three.

run       weights, inputs and a first state -> the trajectory over a segment
factors   trajectory -> what each step's Jacobian is made of
pull      J^T a: a handful of elementwise products and one matrix product        push   J v
"""

from rnnvg.bptt.gru_layer import GRULayer
from rnnvg.bptt.layer_parts import Buffers, LayerWeights, StateViews, Trajectory, slope_of_tanh
from rnnvg.bptt.lstm_layer import LSTMLayer
from rnnvg.bptt.vanilla_layer import RNNLayer

Layer = RNNLayer | LSTMLayer | GRULayer

__all__ = [
    "Buffers",
    "GRULayer",
    "LSTMLayer",
    "Layer",
    "LayerWeights",
    "RNNLayer",
    "StateViews",
    "Trajectory",
    "slope_of_tanh",
]
