"""Access control: administrators, API clients and relay users with their passwords, keys, sessions and links."""
