"""The labelled images that deep networks are trained on: those that the digit tasks read pixel by pixel."""

from rnnvg.tasks.images import Images, digits, from_idx, read_idx

__all__ = ["Images", "digits", "from_idx", "read_idx"]
