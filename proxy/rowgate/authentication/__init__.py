"""Authentication that ends here: what a client proves to the proxy, and what the proxy then proves to the server.

Sans-I/O: bytes of messages in, bytes of messages out; nonces and salts are given.
"""
