"""Computations on what models and strangers wrote, each in a process of its own, which must start quickly."""
