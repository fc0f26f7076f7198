"""The practice servers with faults that a test injects, and with what a test wants to know of them afterwards."""
