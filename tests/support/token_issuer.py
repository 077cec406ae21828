"""An issuer of tokens: a key of its own, made at run time, and the file that publishes it."""

import json
import time
from pathlib import Path
from typing import Any, Final

from joserfc import jws
from joserfc.jwk import ECKey

HOUR: Final = 3_600


class TokenIssuer:
    """Signs tokens with ES256; ``key_set`` is the file with its public key."""

    def __init__(self, directory: Path, name: str = "sso", audience: str = "rowgate") -> None:
        self.name = name
        self.url = f"https://{name}.shop.example"
        self._audience = audience
        self._key = ECKey.generate_key("P-256", {"kid": f"{name}-1", "use": "sig", "alg": "ES256"})
        self.key_set = directory / f"{name}.json"
        self.key_set.write_text(json.dumps({"keys": [self._key.as_dict(private=False)]}))

    def rule(self) -> str:
        """Return what a policy says of it, as one YAML mapping."""
        return json.dumps(
            {
                "name": self.name,
                "issuer": self.url,
                "audience": [self._audience],
                "keys": str(self.key_set),
                "algorithms": ["ES256"],
                "end_user": "email",
            }
        )

    def token(self, person: str, **claims: Any) -> str:
        """Return a token for a person, good for an hour; ``claims`` replace those that it would have."""
        now = int(time.time())
        told = {
            "iss": self.url,
            "aud": self._audience,
            "sub": f"sub of {person}",
            "email": person,
            "iat": now,
            "exp": now + HOUR,
            "jti": f"{person}-{time.monotonic_ns()}",
            **claims,
        }
        header = {"alg": "ES256", "kid": f"{self.name}-1", "typ": "JWT"}
        return jws.serialize_compact(header, json.dumps(told).encode(), self._key)
