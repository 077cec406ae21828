"""One file a check: what could be wrong, why it matters, and the words that mend it."""
