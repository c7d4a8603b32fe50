"""What readers see: rows made of the topics' records, which can be made again from the topics at any time."""
