"""A session's log, folded again: from the brokers or from a recording, by the core that the workers run."""
