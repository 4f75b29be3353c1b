"""Stage 5, forward: carries connections. `engine` is the typed face of the C engine, `stats` reads its counters."""
