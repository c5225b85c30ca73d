"""What every test shares."""

from hypothesis import settings

# A deadline by the clock fails on a busy machine; tests assert results.
settings.register_profile("rnnvg", deadline=None)
settings.load_profile("rnnvg")
