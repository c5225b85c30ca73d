"""Remedies applied and measured again: why a network's gradient does not reach back, and what changes that.

settings -> trials (one remedy, one seed each) -> Advice. `__init__.pyi` lists the names; each is loaded at its first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
