"""The configuration of a node."""

import pytest

from medseg_service.errors import ConfigurationError
from medseg_service.node.check import check_config
from medseg_service.node.config import NodeConfig
from medseg_service.toml_file import read_toml

LEAST = {
    "": 'state = "state"',
    "dicom": 'calling_ae_titles = ["PACS"]',
    "destination.dicomweb": 'url = "http://127.0.0.1:1/dicom-web"',
}


def read(tmp_path, **sections):
    named = {name.replace("__", "."): text for name, text in sections.items()}
    text = "\n".join(f"[{name}]\n{text}" if name else text for name, text in (LEAST | named).items())
    (tmp_path / "node.toml").write_text(text)
    return read_toml(tmp_path / "node.toml", NodeConfig)


def test_the_least_configuration_is_private(tmp_path):
    config = read(tmp_path)
    assert config.state == tmp_path / "state"
    assert (config.dicom.host, config.http.host) == ("127.0.0.1", "127.0.0.1")
    assert config.dicom.peers == ("127.0.0.1", "::1")
    assert (config.model.backend, config.model.precision) == ("onnxruntime", "float32")
    assert check_config(config)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"dicom": ""}, "dicom.calling_ae_titles is missing"),
        ({"dicom": "calling_ae_titles = []"}, "Name the application entities"),
        ({"dicom": 'calling_ae_titles = ["A"]\nport = 70000'}, "out of range"),
        ({"dicom": 'calling_ae_titles = ["A"]\npeers = ["10.0.0.1/8"]'}, "has host bits set.*Give addresses"),
        ({"dicom": 'calling_ae_titles = ["seventeen letters"]'}, "no AE title"),
        ({"dicom": 'calling_ae_titles = ["A"]\nae_titel = "B"'}, "dicom.ae_titel is not known.*ae_title"),
        ({"http": 'host = "0.0.0.0"'}, "others reach http.host 0.0.0.0"),
        ({"model": "samples = 0"}, "model: 0 samples is out of range"),
        ({"model": 'backend = "torch"'}, "model.backend is 'torch'"),
        ({"model": "workers = 0"}, "model.workers 0 is out of range"),
        ({"destination.dicomweb": 'url = "pacs"'}, "not one.*Give http"),
        ({"destination.dicom": 'ae_title = "A"\nhost = "b"\nport = 1'}, "no destination, or two"),
        ({"source": 'url = "http://x"\ntoken_file = "none"'}, "token file.*openssl"),
        ({"limits": "attempts = 0"}, "limits.attempts 0"),
        ({"retention": "done_hours = -1.0"}, "negative"),
        ({"model": 'bundle = "none"'}, "bundle"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused(tmp_path, sections, message):
    with pytest.raises(Exception, match=message) as caught:
        check_config(read(tmp_path, **{name.replace(".", "__"): text for name, text in sections.items()}))
    assert caught.value.remedy


def test_all_that_is_wrong_is_said_at_once(tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, dicom='calling_ae_titel = ["A"]', model="samples = 0", limits="attempts = 0", retention="x = 1")
    for problem in (
        "dicom.calling_ae_titel is not",
        "calling_ae_titles is missing",
        "0 samples",
        "attempts 0",
        "retention.x",
    ):
        assert problem in str(caught.value)
    config = read(tmp_path, model='bundle = "none"', source='url = "http://x"\ntoken_file = "none"')
    with pytest.raises(ConfigurationError, match=r"(?s)bundle.*token file"):
        check_config(config)


def rules(tmp_path, text):
    (tmp_path / "node.toml").write_text(
        "\n".join([LEAST[""], "[dicom]", LEAST["dicom"], "[destination.dicomweb]", LEAST["destination.dicomweb"], text])
    )
    return read_toml(tmp_path / "node.toml", NodeConfig)


def test_a_rule_for_a_model_that_needs_a_point_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="needs a point, and a rule gives none"):
        check_config(rules(tmp_path, '[[rules]]\nmodality = "US"'))


@pytest.mark.parametrize("text", ["[[rules]]", '[[rules]]\ndescription = "("'])
def test_a_rule_says_what_it_matches(tmp_path, text):
    with pytest.raises(ConfigurationError, match="rule"):
        rules(tmp_path, text)
