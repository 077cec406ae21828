"""Side-by-side load comparison behind ``rowgate bench``."""
