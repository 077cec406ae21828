"""Identity: whose token it is, whether it still counts, and who answers for the keys. Files, but no sockets."""
