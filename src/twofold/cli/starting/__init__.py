"""Commands that start something: `twofold new`, `demo`, `run` and `worker`."""
