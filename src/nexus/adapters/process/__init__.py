"""Attempts as local processes: the engine of the embedded service.

Who is who, from the service outwards: `engine` (in the service) asks, through `forkserver`, the `zygote`, a small process
that forks without delay; its child is the `launcher`, one an attempt, which starts the algorithm, watches it (`watch`), keeps
its output (`logs`) and writes how it ended (`folders` names the files). The service and the zygote may die: launchers go on.

`folders`, `logs`, `watch`, `launcher` and `zygote` are loaded by a bare interpreter: they import little and only the
standard library, so that each launcher stays small. This file stays empty for the same reason.
"""
