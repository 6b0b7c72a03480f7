"""For every unit test."""

from hypothesis import HealthCheck, settings

# On a machine that is busy with something else an example may take seconds.
settings.register_profile(
    "busy", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("busy")
