"""The sans-I/O machine of one session."""
