"""Running one segment of a read model: reading, sorting into rows, taking steps, retrying what is parked."""
