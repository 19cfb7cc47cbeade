"""An application with one mistake of each kind that the checks know."""
