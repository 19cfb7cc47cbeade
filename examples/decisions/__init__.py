"""Decisions over anything: the examples of <https://dcb.events/examples/>, each in one module with a `wire(app)`."""
