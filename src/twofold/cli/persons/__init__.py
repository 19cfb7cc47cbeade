"""Commands for the persons of whom an application keeps data."""
