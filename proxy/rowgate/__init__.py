"""Rowgate: a PostgreSQL firewall that makes mass extraction impossible."""

import os

__version__ = "0.1.0"

if os.environ.get("ROWGATE_PURE"):  # the pure twins on demand: tests run both, a suspicious operator may too
    from rowgate._twins import prefer_pure

    prefer_pure(__name__, __path__)
