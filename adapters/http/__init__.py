"""The HTTP surface: the API and the pages, on a Unix socket and over TCP."""
