"""Keeping read models in step with the log: registry, generations, leases, workers, rebuilds."""
