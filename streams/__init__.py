"""The shell: stream processors that take records in order, perform effects, and acknowledge in order."""
