"""The policy's issuers as those who sign security events: by the same keys as their tokens, under the same rules."""

from rowgate.api.security_event import Signer, SignerUnavailableError
from rowgate.network.issuers import IssuerError
from rowgate.network.verifier import Verifier


class IssuerSigners:
    """Knows the keys that the verifier of tokens knows."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    async def signer(self, issuer: str, key: str | None, algorithm: str) -> Signer | None:
        """Return the key of an issuer, by its ``iss`` and the key's id, None: none that counts.

        Raises SignerUnavailableError.
        """
        try:
            found = await self._verifier.signing_key(issuer, key, algorithm)
        except IssuerError as error:
            raise SignerUnavailableError from error
        if found is None:
            return None
        rule, signing = found
        return Signer(
            rule.name,
            rule.audiences,
            rule.skew,
            rule.end_user,
            lambda signed, signature: signing.public.verifies(algorithm, signed, signature),
        )
