"""HTTP: what administrators, directories (SCIM) and identity providers (Shared Signals) tell the proxy."""
