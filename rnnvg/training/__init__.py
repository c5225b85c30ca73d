"""Training one model on one task: loss curve, checkpoints, status, and going on after an interruption."""

# pyright: basic
# lazy_loader has no types; __init__.pyi has those of the names here.

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
