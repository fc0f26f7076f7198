"""The HTTP API, a router for each noun."""
