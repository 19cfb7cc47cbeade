"""What an engine must do: each promise stands in the docstring of its port."""
