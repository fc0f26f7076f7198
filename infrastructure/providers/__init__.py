"""The providers: those of the configuration file, and those that are in the store."""
