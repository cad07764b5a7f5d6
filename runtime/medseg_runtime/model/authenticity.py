"""Who made a bundle: detached Ed25519 signatures (RFC 8032) of bundle.json and of each engine.json, which hold the hashes of all else.

    bundle/bundle.json.sig      64 bytes, the signature of the bytes of bundle.json

`medseg-export sign` writes them with a private key that need not be on this machine later. `openssl pkeyutl -verify -rawin` checks
them too.
"""

from __future__ import annotations

from pathlib import Path

from medseg_runtime.errors import BundleError
from medseg_runtime.files.read import read_bytes

SUFFIX = ".sig"
MAX_KEY_BYTES = 1 << 16
GIVE_PUBLIC = (
    "Give the public key of who signed it: a PEM file with an Ed25519 key, as `openssl pkey -pubout` writes it."
)


def read_public_key(path: Path) -> bytes:
    """Read the file of a public key.

    Raises:
        BundleError: it cannot be read.
    """
    return read_bytes(path, BundleError, GIVE_PUBLIC, name="the key", limit=MAX_KEY_BYTES)


def check_signature(content: bytes, signature: Path, public_key: bytes, what: str) -> None:
    """Refuse content that the owner of a key did not sign.

    signature: the file with the signature. public_key: in PEM. what: the name of the content in messages.

    Raises:
        BundleError: there is no signature, it is another's or of other content, or the key is none.
    """
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise BundleError(
            "signatures cannot be checked, because cryptography is not installed",
            "Run `pip install 'medseglatdiff[signing]'`.",
        ) from error
    try:
        key = load_pem_public_key(public_key)
    except Exception as error:  # it has many types of its own
        raise BundleError("the key is not a public key in PEM", GIVE_PUBLIC) from error
    if not isinstance(key, Ed25519PublicKey):
        raise BundleError("the key is not an Ed25519 key", GIVE_PUBLIC)
    remedy = "Ask who made the bundle to sign it with `medseg-export sign`, or give the key that it was signed with."
    found = read_bytes(signature, BundleError, remedy, name=f"the signature of {what}", limit=MAX_KEY_BYTES)
    try:
        key.verify(found, content)
    except InvalidSignature as error:
        raise BundleError(f"{what} was not signed with this key, or was changed afterwards", remedy) from error
