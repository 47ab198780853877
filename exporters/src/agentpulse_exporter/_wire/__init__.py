"""Spans as events of the ingest protocol: their fields, their limits and their privacy."""
