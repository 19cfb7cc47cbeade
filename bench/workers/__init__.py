"""One contender per module, each a process of its own; those of the peers run in the peers' virtual environment."""
