"""Five generations of the code of one shop: what each wrote is recorded, and today's code reads all of it."""
