"""What every test runs under."""

from hypothesis import settings

# Machines of the CI are slow now and then: an example may take its time.
settings.register_profile("bisupervised", deadline=None)
settings.load_profile("bisupervised")
