"""Anybody's span, read as one call of a model by the current GenAI conventions."""
