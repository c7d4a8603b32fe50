"""The core: what an agent is and how a session proceeds. Pure; the I/O of its effects is in `models` and `tools`."""
