"""The listeners: the Unix socket, TCP with or without TLS, and the loopback redirect."""
