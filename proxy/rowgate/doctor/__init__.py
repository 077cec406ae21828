"""``rowgate doctor``: looks at a live set-up for ways around the proxy; judges values, and changes nothing."""
