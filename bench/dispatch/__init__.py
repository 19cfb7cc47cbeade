"""A command through a bus with three middlewares, to a handler that does nothing, beside other buses."""
