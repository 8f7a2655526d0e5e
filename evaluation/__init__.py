"""Protocols that say how well a checkpoint verifies, recognises expressions and authenticates, with what certainty."""
