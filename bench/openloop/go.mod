module nexus/bench/openloop

go 1.21
