"""Model clients: the I/O behind the effect `CallModel`. One port (`port.py`), one client per provider."""
