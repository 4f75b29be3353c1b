"""What a client calls the identity it wants from a node that serves many: the TLS server name, readable to nobody.

One UDP port of a node answers for all its pods, so the client has to say whom it wants before the server shows a
certificate, and the server name (RFC 6066) travels in clear. HBONE shows an observer the pods' addresses; their names
it does not. So the name is a salt and a keyed hash of the SPIFFE id, new for each connection: equal targets look
unlike, and all names are of one length. The key is the root certificate that vouches for the client: the server must
have it in any case, or the handshake fails, and TLS 1.3 never shows it on the wire. The bias: who holds the root (every
member of the mesh) and watches the wire can test a guess; he could as well ask each pod's HBONE port who it is.

The name is a hint and proves nothing: what counts is the certificate that the server then shows.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable

SALT_BYTES = 10
HASH_BYTES = 16  # two identities of a node are never mistaken for each other; 26 bytes are 42 letters, a label has 63
_LABEL = 42


def opaque_name(identity: str, root: bytes, salt: bytes) -> str:
    """`root`: DER; `salt`: SALT_BYTES by chance."""
    return base64.b32encode(salt + _hash(identity, root, salt)).decode().rstrip("=").lower()


def meant_by(name: str, roots: Iterable[bytes], identities: Iterable[str]) -> str:
    """Which of the identities a name is; empty: none of them, or no such name."""
    try:
        raw = base64.b32decode(name.upper() + "=" * (-len(name) % 8)) if len(name) == _LABEL else b""
    except ValueError:
        return ""
    salt, hashed = raw[:SALT_BYTES], raw[SALT_BYTES:]
    known = list(identities)
    for root in roots:
        for identity in known:
            if hmac.compare_digest(_hash(identity, root, salt), hashed):
                return identity
    return ""


def _hash(identity: str, root: bytes, salt: bytes) -> bytes:
    key = hashlib.sha256(b"seine quic name\0" + root).digest()
    return hmac.digest(key, salt + identity.encode(), "sha256")[:HASH_BYTES]
