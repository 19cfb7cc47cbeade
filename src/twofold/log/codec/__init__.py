"""How events are stored and read again: names, payloads, tags, and the proof that nothing is lost between."""
