"""Switches AgentPulse on in a Python program that doesn't mention it.

This folder goes first on the program's PYTHONPATH, where Python finds `sitecustomize` as it starts.
"""
