"""Texts as word ids: a generated language, Shakespeare, and anyone's own files. Nothing is ever downloaded."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
