"""The door: HTTP, server-sent events, WebSocket and the web console."""
