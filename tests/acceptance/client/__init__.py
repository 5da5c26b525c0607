"""The real ``nexus-client-sdk`` against this service: opened with ``make accept-client``."""
