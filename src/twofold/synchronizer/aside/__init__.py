"""Folding rows beside the read model: for questions on demand, for verifications, and as of earlier moments."""
