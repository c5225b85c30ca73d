"""The names of cells and of initialisers, for whoever lists them without torch."""

CELLS = ("rnn", "rnn-relu", "lstm", "gru")  # PyTorch's own
# Name, which is its file's in rnnvg/models/cores, -> class.
CORES = {"mingru": "MinGRU", "lru": "LRU", "lem": "LEM", "attention": "Attention", "tcn": "TCN"}
OWN_CELLS = ("leaky", "residual", "layer-norm", *CORES)
EVERY_CELL = (*CELLS, *OWN_CELLS)
OFFERED = ("rnn", "lstm", "gru", "rnn-relu", *OWN_CELLS)  # as a command lists them: the default three first
INITS = ("default", "orthogonal", "identity", "forget-bias", "chrono", "keras", "xavier")
