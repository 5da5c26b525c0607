"""For users of a Nexus service: a client, and the algorithm side. Imports nothing of the service."""
