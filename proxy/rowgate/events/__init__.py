"""What happened and is rare: structured events and alerts."""
