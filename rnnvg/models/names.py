"""The names of cells and of initialisers, for whoever lists them without torch."""

CELLS = ("rnn", "rnn-relu", "lstm", "gru")  # PyTorch's own
# Name, which is its file's in rnnvg/models/cores, -> class.
CORES = {"mingru": "MinGRU", "lru": "LRU", "lem": "LEM", "attention": "Attention", "tcn": "TCN"}
OWN_CELLS = ("leaky", "residual", "layer-norm", *CORES)
EVERY_CELL = (*CELLS, *OWN_CELLS)
# As commands list them: the default three first.
OFFERED_TORCH = ("rnn", "lstm", "gru", "rnn-relu")
OFFERED = (*OFFERED_TORCH, *OWN_CELLS)
INITS = ("default", "orthogonal", "identity", "forget-bias", "chrono", "keras", "xavier")
