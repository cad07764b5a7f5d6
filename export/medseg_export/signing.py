"""Sign a bundle: bundle.json and each engine.json in it, which hold the hashes of all other files."""

from __future__ import annotations

from pathlib import Path

from medseg_runtime.backends.gpu.tensorrt.engine_files import ENGINES, RECORD_NAME
from medseg_runtime.errors import BundleError, OutputError
from medseg_runtime.files.failures import remedy_for
from medseg_runtime.files.read import read_bytes
from medseg_runtime.files.replace import replacing
from medseg_runtime.model.authenticity import MAX_KEY_BYTES, SUFFIX
from medseg_runtime.model.bundle import MANIFEST_NAME, Bundle

MAKE_KEY = "Make one with `openssl genpkey -algorithm ed25519 -out key.pem`; keep it where nobody else can read it."


def sign_bundle(folder: Path, key: Path, *, trust_graphs: bool = False) -> list[Path]:
    """Check a bundle, and write a signature beside bundle.json and beside each engine.json. Return the files that were written.

    key: the private key, PEM without a password.

    Raises:
        BundleError: the bundle is damaged, or the key is no Ed25519 key.
        OutputError: a signature cannot be written.
    """
    private = read_bytes(key, BundleError, MAKE_KEY, name="the key", limit=MAX_KEY_BYTES)
    bundle = Bundle.load(folder, trust_graphs=trust_graphs)
    signed = [bundle.folder / MANIFEST_NAME, *sorted(bundle.folder.glob(f"{ENGINES}/*/{RECORD_NAME}"))]
    return [_sign(path, private) for path in signed]


def _sign(path: Path, private_key: bytes) -> Path:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(private_key, password=None)
    except Exception as error:  # it has many types of its own
        raise BundleError("the key is not a private key in PEM without a password", MAKE_KEY) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError("the key is not an Ed25519 key", MAKE_KEY)
    signature = path.with_name(path.name + SUFFIX)
    content = read_bytes(path, BundleError, "Copy the bundle again.", name=path.name)
    try:
        with replacing(signature) as temporary:
            temporary.write_bytes(key.sign(content))
    except OSError as error:
        remedy = remedy_for(error, "Copy the bundle to a writable folder, and sign it there.")
        raise OutputError(f"{signature.name} cannot be written: {error.strerror}", remedy) from error
    return signature
