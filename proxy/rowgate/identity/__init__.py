"""Who is asking, and whether that still counts: tokens and the keys that sign them."""
