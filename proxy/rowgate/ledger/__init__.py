"""What was used: windows, leases, and the stores that keep them."""
