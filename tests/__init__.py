"""The house's laws, each tested where the real thing runs."""

# How long a test waits for another process: it ends what hangs and measures nothing, a machine may be busy.
PATIENCE_SECONDS = 600.0
