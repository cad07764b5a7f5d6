"""A bundle that must be signed, or must be one certain bundle, is no other."""

import hashlib
import json
import shutil
import subprocess

import pytest

from medseg_runtime import BundleError, Segmenter
from medseg_runtime.model.bundle import MANIFEST_NAME, Bundle

pytest.importorskip("cryptography")
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def written(folder, name, private):
    path = folder / name
    path.write_bytes(
        private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return path


@pytest.fixture
def private():
    return Ed25519PrivateKey.generate()


@pytest.fixture
def key(tmp_path, private):
    return written(tmp_path, "key.pub.pem", private)


@pytest.fixture
def signed(tiny, tmp_path, private):
    (tmp_path / "bundle").mkdir()
    folder = tiny.write_bundle(tmp_path / "bundle")
    (folder / f"{MANIFEST_NAME}.sig").write_bytes(private.sign((folder / MANIFEST_NAME).read_bytes()))
    return folder


def test_a_signed_bundle_is_loaded(signed, key):
    assert Bundle.load(signed, require_signature=key).public_key == key.read_bytes()
    assert Bundle.load(signed).public_key is None
    Segmenter.load(signed, require_signature=str(key))


def test_another_key_is_refused(signed, tmp_path):
    other = written(tmp_path, "other.pem", Ed25519PrivateKey.generate())
    with pytest.raises(BundleError, match=r"bundle\.json was not signed with this key, or was changed"):
        Bundle.load(signed, require_signature=other)


def test_a_change_after_signing_is_refused(signed, key):
    path = signed / MANIFEST_NAME
    path.write_text(path.read_text().replace("tests of software", "every patient"))
    Bundle.load(signed)
    with pytest.raises(BundleError, match="was changed afterwards"):
        Bundle.load(signed, require_signature=key)


@pytest.mark.parametrize("content", [None, b"", b"x" * 64, b"x" * 100_000], ids=["none", "empty", "noise", "long"])
def test_what_is_no_signature_is_refused(signed, key, content):
    signature = signed / f"{MANIFEST_NAME}.sig"
    signature.unlink()
    if content is not None:
        signature.write_bytes(content)
    with pytest.raises(BundleError, match=r"Ask who made the bundle to sign it"):
        Bundle.load(signed, require_signature=key)


def test_what_is_no_key_is_refused(signed, tmp_path):
    wrong = {"text": b"no key", "private": b"-----BEGIN PRIVATE KEY-----\n", "long": b"x" * 100_000, "empty": b""}
    for name, content in wrong.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BundleError, match="Give the public key of who signed it"):
            Bundle.load(signed, require_signature=tmp_path / name)
    with pytest.raises(BundleError, match="is not an Ed25519 key"):
        Bundle.load(signed, require_signature=written(tmp_path, "ec.pem", generate_private_key(SECP256R1())))
    with pytest.raises(BundleError, match="the key: the file cannot be read"):
        Bundle.load(signed, require_signature=tmp_path / "missing.pem")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_checks_the_signature_too(signed, key):
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", key, "-rawin", "-in", signed / MANIFEST_NAME]
    done = subprocess.run([*command, "-sigfile", signed / f"{MANIFEST_NAME}.sig"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_only_the_bundle_with_the_hash_is_loaded(signed):
    sha256 = hashlib.sha256((signed / MANIFEST_NAME).read_bytes()).hexdigest()
    Bundle.load(signed, bundle_sha256=sha256)
    Segmenter.load(signed, bundle_sha256=sha256.upper())
    for wrong in ("0" * 64, sha256[:12], ""):
        with pytest.raises(BundleError, match=rf"has the SHA-256 {sha256}, not {wrong}"):
            Bundle.load(signed, bundle_sha256=wrong)


def test_the_command_takes_both(signed, key, tmp_path, run_command):
    from PIL import Image

    from medseg_runtime.commands.infer import main

    Image.new("L", (20, 20)).save(tmp_path / "image.png")
    asked = (tmp_path / "image.png", "--bundle", signed, "--backend", "onnxruntime")
    sha256 = hashlib.sha256((signed / MANIFEST_NAME).read_bytes()).hexdigest()
    good = ("--require-signature", key, "--bundle-sha256", sha256)
    assert run_command(main, "medseg-infer", *asked, "--out", tmp_path / "out", *good)[0] == 0
    code, _, err = run_command(main, "medseg-infer", *asked, "--bundle-sha256", "0" * 64)
    assert (code, "not 0000" in err) == (1, True)


# --- bounded headers ---------------------------------------------------------------------------------------------------


def test_a_manifest_of_more_than_a_megabyte_is_not_read(signed):
    path = signed / MANIFEST_NAME
    path.write_text(path.read_text() + " " * (1 << 20))
    with pytest.raises(BundleError, match=r"the file has 1\.0 MiB, more than 1"):
        Bundle.load(signed)


def test_a_key_that_is_there_twice_is_refused(signed):
    path = signed / MANIFEST_NAME
    path.write_text(path.read_text().replace('"task":', '"task": "another", "task":'))
    with pytest.raises(BundleError, match="has the key 'task' twice"):
        Bundle.load(signed)


@pytest.mark.parametrize("depth", [40, 900])
def test_deep_nesting_is_refused(signed, depth):
    path = signed / MANIFEST_NAME
    content = json.loads(path.read_text()) | {"training": {"data": "here"}}
    path.write_text(json.dumps(content).replace('"here"', "[" * depth + "]" * depth))
    with pytest.raises(BundleError, match="is nested more than 32 deep"):
        Bundle.load(signed)
