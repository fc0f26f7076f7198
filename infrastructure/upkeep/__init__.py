"""What is done to a whole store: backup and restore, upgrade, new keys, and a check of every event and row."""
