"""The configuration: where its file is, what its tables hold, and how the file is read."""
