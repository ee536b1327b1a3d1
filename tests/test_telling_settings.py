"""Settings of what others are told: checked at the start, secrets never repeated."""

import pytest

from llmpool_worker.settings import SettingsError, load
from llmpool_worker.settings.telemetry import _need


def test_nothing_is_told_by_default():
    """Without a setting nobody outside is told anything, and a tenth of the jobs is sampled."""
    s = load({})
    told = (s.kafka_brokers, s.otel_exporter_otlp_endpoint, s.notify_url, s.analytics_url, s.notify_key())
    assert told == (None,) * 5
    assert (s.enable_debug_mode, s.performance_sample_rate) == (False, 0.1)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        pytest.param({"performance_sample_rate": 1.5}, "PERFORMANCE_SAMPLE_RATE: got 1.5", id="share over 1"),
        pytest.param({"kafka_brokers": "kafka"}, "KAFKA_BROKERS: got 'kafka': wanted host:port", id="no port"),
        pytest.param({"kafka_brokers": "a:1,,b:2"}, "KAFKA_BROKERS", id="an empty broker"),
        pytest.param({"kafka_topic": "a topic"}, "KAFKA_TOPIC: got 'a topic'", id="topic"),
        pytest.param({"kafka_security_protocol": "TLS"}, "KAFKA_SECURITY_PROTOCOL: got 'TLS'", id="protocol"),
        pytest.param({"kafka_security_protocol": "SASL_SSL"}, "needs KAFKA_SASL_USERNAME", id="no user"),
        pytest.param({"kafka_ssl_ca_file": "missing.pem"}, "KAFKA_SSL_CA_FILE: got 'missing.pem'", id="no file"),
        pytest.param({"otel_exporter_otlp_endpoint": "jaeger:4317"}, "OTEL_EXPORTER_OTLP_ENDPOINT", id="no scheme"),
        pytest.param({"notify_url": "ftp://host/path"}, "NOTIFY_URL", id="scheme"),
        pytest.param({"analytics_url": "http://user:word@host/"}, "ANALYTICS_URL", id="user in the address"),
        pytest.param({"notify_secret": "whsec_not!base64"}, "NOTIFY_SECRET: what follows whsec_", id="Base64"),
        pytest.param({"notify_interval": 1}, "NOTIFY_INTERVAL: got 1", id="interval"),
    ],
)
def test_wrong_values_are_named(given, named):
    """A value that can't be used stops the start with its variable."""
    with pytest.raises(SettingsError, match=named):
        load(given)


@pytest.mark.parametrize("name", ["notify_url", "analytics_url", "otel_exporter_otlp_endpoint"])
def test_addresses_are_not_repeated(name):
    """An address may be a secret, so its fault doesn't show it."""
    with pytest.raises(SettingsError) as refused:
        load({name: "ftp://host/secret-word"})
    assert "secret-word" not in str(refused.value)


def test_secret_in_a_file(tmp_path, monkeypatch):
    """A mounted secret is read without the line's end that editors add."""
    (tmp_path / "secret").write_text("a secret\n")
    monkeypatch.setenv("NOTIFY_SECRET_FILE", str(tmp_path / "secret"))
    assert load().notify_key() == b"a secret"


def test_kafka_s_words_in_any_case():
    """Brokers may have blanks between them; protocol and mechanism any case."""
    s = load(
        {
            "kafka_brokers": "a:9092, [::1]:9092",
            "kafka_security_protocol": "sasl_plaintext",
            "kafka_sasl_mechanism": "scram-sha-256",
            "kafka_sasl_username": "u",
            "kafka_sasl_password": "p",
        }
    )
    assert (s.kafka_brokers, s.kafka_security_protocol) == ("a:9092,[::1]:9092", "SASL_PLAINTEXT")
    assert s.kafka_sasl_mechanism == "SCRAM-SHA-256"


@pytest.mark.parametrize("module", ["no_such_module", "no_such_package.inside"])
def test_a_missing_extra_is_named(module):
    """A setting whose library isn't installed stops the start and says what to install."""
    with pytest.raises(
        ValueError, match=r"KAFKA_BROKERS: needs the extra kafka: pip install 'llm-worker-pool\[kafka\]'"
    ):
        _need("KAFKA_BROKERS", "kafka", module)
