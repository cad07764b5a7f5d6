"""`medseg-export sign`: what it signs is taken, and nothing else."""

import pytest

from medseg_runtime.backends.gpu.tensorrt.engine_files import open_engines
from medseg_runtime.errors import BundleError, EngineError
from medseg_runtime.model.bundle import Bundle

pytest.importorskip("cryptography")
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@pytest.fixture
def keys(tmp_path):
    """The files of a private and of its public key."""
    private, pem = Ed25519PrivateKey.generate(), serialization.Encoding.PEM
    (tmp_path / "key.pem").write_bytes(
        private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (tmp_path / "key.pub.pem").write_bytes(
        private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return tmp_path / "key.pem", tmp_path / "key.pub.pem"


def test_a_bundle_that_is_signed_is_taken(own, keys, medseg_export):
    private, public = keys
    with pytest.raises(BundleError, match=r"the signature of bundle\.json"):
        Bundle.load(own.folder, require_signature=public)
    code, out, _ = medseg_export("sign", own.folder, "--key", private)
    assert (code, out) == (0, f"{own.folder}/bundle.json.sig: written\n")
    assert Bundle.load(own.folder, require_signature=public).sha256 == own.sha256


def test_a_damaged_bundle_is_not_signed(own, keys, medseg_export):
    (own.folder / "decoder.onnx").write_bytes(b"another")
    code, _, err = medseg_export("sign", own.folder, "--key", keys[0])
    assert (code, "is not the file that bundle.json describes" in err) == (1, True)
    assert not (own.folder / "bundle.json.sig").exists()


@pytest.mark.parametrize("content", [None, b"", b"no key"])
def test_what_is_no_private_key_is_refused(own, tmp_path, medseg_export, content):
    if content is not None:
        (tmp_path / "key.pem").write_bytes(content)
    code, _, err = medseg_export("sign", own.folder, "--key", tmp_path / "key.pem")
    assert (code, "openssl genpkey" in err) == (1, True)


def test_a_signed_bundle_can_be_replaced(own, keys, medseg_export):
    from medseg_export.bundle_writer import BUNDLE
    from medseg_runtime.files.publish import check_output

    medseg_export("sign", own.folder, "--key", keys[0])
    check_output(own.folder, BUNDLE, force=True)


def test_engines_must_be_signed_too(tiny_engines, keys, medseg_export):
    private, public = keys
    folder, record = tiny_engines
    medseg_export("sign", folder, "--key", private)
    signature = next(folder.glob("engines/*/engine.json.sig"))
    bundle = Bundle.load(folder, require_signature=public)
    given = (record.library, record.version, record.compute_capabilities[0])
    assert open_engines(bundle, *given).plans.keys() == bundle.graphs.keys()
    content = signature.read_bytes()
    signature.write_bytes(content[::-1])
    with pytest.raises(EngineError, match=r"engine\.json was not signed with this key"):
        open_engines(bundle, *given)
    signature.unlink()
    with pytest.raises(EngineError, match=r"the signature of .*/engine\.json"):
        open_engines(bundle, *given)


@pytest.fixture
def tiny_engines(own):
    """The folder of a bundle with engines, whose plans are noise, and their record."""
    import hashlib

    from medseg_runtime.backends.gpu.tensorrt.engine_files import EngineRecord, Flags, Plan, Profile

    record = EngineRecord(
        library="tensorrt",
        version="11.0",
        precision="float16",
        gpu=None,
        compute_capabilities=(90,),
        profiles=(Profile(min=1, opt=4, max=16),),
        flags=Flags(version_compatible=False, hardware="none", workspace_mib=None, optimization_level=3),
        plans={
            name: Plan(
                file=f"{name}.plan",
                sha256=hashlib.sha256(name.encode()).hexdigest(),
                bytes=len(name),
                source_sha256=graph.sha256,
            )
            for name, graph in own.manifest.half.items()
        },
        built="2026-12-01",
        driver=None,
        cuda=None,
    )
    target = own.folder / "engines" / record.target
    target.mkdir(parents=True)
    (target / "engine.json").write_text(record.to_json())
    for name in record.plans:
        (target / f"{name}.plan").write_bytes(name.encode())
    return own.folder, record
