"""Rowgate: a PostgreSQL firewall that makes mass extraction impossible."""

__version__ = "0.1.0"
