"""What every process needs and no domain rule touches: settings, logs, and how to reach the brokers."""
