from .by_name import NAMES as NAMES
from .by_name import load as load
from .torch_text import from_torchtext as from_torchtext
