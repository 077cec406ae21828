"""What a statement is, as read by PostgreSQL's own parser."""
