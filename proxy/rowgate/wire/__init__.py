"""The wire: frames and messages of PostgreSQL protocol 3, as values."""
