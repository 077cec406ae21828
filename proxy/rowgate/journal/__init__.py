"""What was read: one record a statement, safe through a kill."""
