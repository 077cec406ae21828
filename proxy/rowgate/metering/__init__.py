"""Accounts: leased amounts, spent at the row."""
