"""Guards: one file each, named verdicts, one registry."""
