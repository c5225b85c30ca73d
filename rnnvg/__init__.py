"""rnnvg measures how far back in time a recurrent network's learning signal reaches.

`__init__.pyi` lists the public names; each is loaded where it is first used, so that `import rnnvg` and `rnnvg --help` start
without torch.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
