"""Requests that the commands make to the endpoint, the way the exporter makes its own."""

from __future__ import annotations
