"""The language of Headrace: commands, events, effects, failures, topics, and the codec between bytes and types."""
