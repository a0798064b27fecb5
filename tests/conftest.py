"""What holds for every test."""

from hypothesis import settings

# How long an example takes says what else the machine does: times are measured in bench/, not here.
settings.register_profile("errata", deadline=None)
settings.load_profile("errata")
