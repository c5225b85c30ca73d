"""The names of optimisers, for whoever lists them without torch."""

OPTIMIZERS = {"adam": "Adam", "rmsprop": "RMSprop", "sgd": "SGD"}  # name -> class in torch.optim
