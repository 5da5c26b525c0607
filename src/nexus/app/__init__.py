"""Settings, wiring and roles: who is started with what, in which order, and how it stops."""
