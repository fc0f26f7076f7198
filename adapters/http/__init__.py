"""The service's API: HTTP on a Unix socket, where the kernel says who calls."""
