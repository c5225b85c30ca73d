"""Benchmarks: a specification, the grid of runs that it stands for, workers that do them, and the directory they fill.

`__init__.pyi` lists the names; each is loaded where it is first used: to read results takes neither torch nor Dask.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
