"""The names of what deep networks are made of, for whoever lists them without torch."""

ACTIVATIONS = ("sigmoid", "tanh", "relu", "leaky-relu", "prelu", "elu", "selu", "gelu")
CHAIN_ACTIVATIONS = ("sigmoid", "tanh", "relu")
# gaussian: N(0, 0.01^2), the habit of the 2000s. xavier: Glorot and Bengio 2010. he: He et al. 2015. orthogonal: Saxe et al.
# 2014.
INITS = ("gaussian", "xavier", "he", "orthogonal")
NORMS = ("none", "batch", "layer")  # Ioffe and Szegedy 2015; Ba, Kiros and Hinton 2016
RESIDUALS = ("none", "skip", "block")
OPTIMIZERS = ("sgd", "adam")
