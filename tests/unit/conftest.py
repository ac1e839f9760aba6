"""How the unit tests draw their examples: the same ones every time, with no eye on the clock."""

from hypothesis import settings

settings.register_profile("unit", deadline=None, derandomize=True, database=None)
settings.load_profile("unit")
