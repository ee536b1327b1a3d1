"""Signatures of notifications, by Standard Webhooks (https://www.standardwebhooks.com). Pure."""

from __future__ import annotations

import base64
import binascii
import hmac

_PREFIX = "whsec_"


def signing_key(secret: str) -> bytes:
    """``whsec_`` and Base64, or else the text's own bytes. Raises ValueError, which doesn't repeat the secret."""
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise ValueError(f"what follows {_PREFIX} isn't Base64") from None


def signed_headers(message_id: str, body: bytes, now: int, key: bytes | None) -> dict[str, str]:
    """Id, time (``now``, Unix seconds) and, with a key, the signature.

    It is of ``<id>.<timestamp>.<body>`` by HMAC-SHA256, so that neither an old request nor another's body passes for a
    new one.
    """
    headers = {"webhook-id": message_id, "webhook-timestamp": str(now)}
    if key is not None:
        digest = hmac.digest(key, f"{message_id}.{now}.".encode() + body, "sha256")
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers
