"""Quarantined sessions as an operator sees them: listed with their cause, released, their messages sent again."""
