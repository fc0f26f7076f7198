"""Changes to machines, settings, groups and clients: one at a time, or as a file says."""
