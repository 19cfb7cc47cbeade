"""libpq's protocol by hand, for what is sent most often; known to the engine alone."""
