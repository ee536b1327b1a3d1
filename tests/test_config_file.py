"""Settings from a YAML file and secrets from files of their own: what wins, what is refused, and in which words."""

from pathlib import Path

import pytest
from pydantic import BaseModel, Field
from pydantic_settings import BaseSettings

from llmpool_worker.settings import Settings, SettingsError, load, misspelt_variables
from llmpool_worker.settings.file import read_config
from llmpool_worker.settings.sources import ConfigFile, misspelt


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the settings of whoever runs the tests nor a folder of theirs."""
    for name in ("REDIS_URL", "REDIS_PASSWORD", "WORKER_CONCURRENCY", "CONFIG_DIR", "WORKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["worker.yaml", "worker.yml"])
def test_the_file_beside_the_worker(name: str) -> None:
    """config/worker.yaml is read where it is there, its names in any case, its values as the environment's."""
    write(Path("config", name), "WORKER_CONCURRENCY: 7\nlog_level: Debug\nRESULT_TTL:\n")
    settings = load()
    assert (settings.worker_concurrency, settings.log_level, settings.result_ttl) == (7, "debug", 86_400_000)


def test_without_a_file_nothing_changes() -> None:
    """Neither the folder nor the file needs to be there."""
    assert load().worker_concurrency == 5


def test_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable decides over the file; an empty one counts as unset."""
    write(Path("config/worker.yaml"), "WORKER_CONCURRENCY: 7\nWORKER_BATCH_SIZE: 3\n")
    monkeypatch.setenv("WORKER_CONCURRENCY", "9")
    monkeypatch.setenv("WORKER_BATCH_SIZE", "")
    settings = load()
    assert (settings.worker_concurrency, settings.worker_batch_size) == (9, 3)


def test_another_folder_and_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CONFIG_DIR names the folder; WORKER_CONFIG the file itself, and wins."""
    write(tmp_path / "etc" / "worker.yaml", "WORKER_CONCURRENCY: 7\n")
    monkeypatch.setenv("CONFIG_DIR", str(tmp_path / "etc"))
    assert load().worker_concurrency == 7
    monkeypatch.setenv("WORKER_CONFIG", str(write(tmp_path / "mine.yaml", "WORKER_CONCURRENCY: 8\n")))
    assert load().worker_concurrency == 8


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "LOG_LEVEL: info\nWORKER_CONCURENCY: 5\n",
            "line 2: WORKER_CONCURENCY: no such setting; did you mean WORKER_C",
        ),
        ("TEA: milk\n", "line 1: TEA: no such setting"),
        ("WORKER_ID: a\nworker_id: b\n", "line 2: worker_id: is there twice"),
        ("WORKER_QUEUES: {a: 1, a: 2}\n", "line 1: not YAML: a key is there twice"),
        ("CONFIG_DIR: elsewhere\n", "line 1: CONFIG_DIR: only the environment"),
        ("- WORKER_ID\n", "wanted a mapping"),
        ("WORKER_ID: [\n", "not YAML"),
        ("WORKER_CONCURRENCY: 0\n", "WORKER_CONCURRENCY: got '0': Input should be greater than or equal to 1"),
        ("REDIS_URL: hunter2\n", "REDIS_URL: got a value that isn't shown: wanted one of redis://"),
    ],
    ids=["misspelt", "unknown", "twice", "twice-inside", "itself", "a-list", "no-yaml", "out-of-range", "secret"],
)
def test_faults_name_file_and_key(text: str, words: str) -> None:
    """What can't be used stops the start, with the file, the key, and no secret."""
    write(Path("config/worker.yaml"), text)
    with pytest.raises(SettingsError) as caught:
        load()
    assert str(caught.value).startswith("config/worker.yaml")
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_fault_of_the_environment_is_not_blamed_on_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both have a setting the fault is the winner's."""
    write(Path("config/worker.yaml"), "WORKER_CONCURRENCY: 7\n")
    monkeypatch.setenv("WORKER_CONCURRENCY", "none")
    with pytest.raises(SettingsError, match=r"^WORKER_CONCURRENCY: got 'none'"):
        load()


def test_a_named_file_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """WORKER_CONFIG is a promise; so is that there is one file in the folder."""
    monkeypatch.setenv("WORKER_CONFIG", "gone.yaml")
    with pytest.raises(SettingsError, match=r"gone\.yaml: No such file"):
        load()
    monkeypatch.delenv("WORKER_CONFIG")
    write(Path("config/worker.yaml"), "")
    write(Path("config/worker.yml"), "")
    with pytest.raises(SettingsError, match="wanted one"):
        load()


def test_values_are_as_written(tmp_path: Path) -> None:
    """YAML's own reading of plain values (0123 octal, 1:30 a number, on a truth) is never met; lists become commas,
    mappings JSON, and a setting that takes a structure gets it."""
    path = write(tmp_path / "w.yaml", "a: 0123\nb: 1:30\nc: on\nd: [x, y=z]\ne: {m: [n, 1]}\nf: {m: [n, 1]}\n")
    found = read_config(path, dict.fromkeys("abcde", False) | {"f": True})
    assert found == {"a": "0123", "b": "1:30", "c": "on", "d": "x,y=z", "e": '{"m": ["n", 1]}', "f": {"m": ["n", 1]}}


def test_structures_reach_settings_that_take_them() -> None:
    """What is JSON in a variable is a mapping or a list in the file."""

    class Theirs(BaseModel):
        fallbacks: dict[str, list[str]] = Field(default_factory=dict)

    class Some(Theirs, BaseSettings):
        plain: str = ""

    write(Path("config/worker.yaml"), "fallbacks: {a: [b, c]}\nplain: [b, c]\n")
    assert Some(**ConfigFile(Some)()) == Some(fallbacks={"a": ["b", "c"]}, plain="b,c")


def test_secrets_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """REDIS_PASSWORD_FILE and the like: as Docker and Kubernetes mount secrets, without an editor's line end."""
    monkeypatch.setenv("REDIS_PASSWORD_FILE", str(write(tmp_path / "p", "geheim\n")))
    monkeypatch.setenv("REDIS_URL_FILE", str(write(tmp_path / "u", "redis://h:1/2")))
    address = load().redis_address
    assert (address.options["password"], str(address)) == ("geheim", "h:1/2")


def test_a_secret_is_given_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of two is guessed to be the right one, and a file that isn't there is no empty password."""
    monkeypatch.setenv("REDIS_PASSWORD_FILE", str(tmp_path / "gone"))
    with pytest.raises(SettingsError, match=r"REDIS_PASSWORD_FILE: got '.*gone': No such file"):
        load()
    monkeypatch.setenv("REDIS_PASSWORD", "geheim")
    with pytest.raises(SettingsError, match="REDIS_PASSWORD is set too") as caught:
        load()
    assert "geheim" not in str(caught.value)


def test_misspelt_variables_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is nearly one of ours is named with what it was meant to be; those of others are left alone."""
    fields = Settings.model_fields
    found = misspelt(
        ["WORKER_CONCURENCY", "REDIS_URI", "REDIS_PASWORD_FILE", "redis_url", "REDIS_PASSWORD_FILE"], fields
    )
    assert found == {
        "WORKER_CONCURENCY": "WORKER_CONCURRENCY",
        "REDIS_URI": "REDIS_URL",
        "REDIS_PASWORD_FILE": "REDIS_PASSWORD_FILE",
    }
    others = ["PATH", "REDIS_PORT", "REDIS_SERVICE_HOST", "OLLAMA_HOST", "OLLAMA_MODELS", "OLLAMA_PORT", "WORKER_IMAGE"]
    assert misspelt(others, fields) == {}
    monkeypatch.setenv("OLLAMA_TIMEOUTS", "1")
    assert misspelt_variables()["OLLAMA_TIMEOUTS"] == "OLLAMA_TIMEOUT"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"REDIS_TLS_VERIFY": "none"}, "REDIS_TLS_VERIFY: given, but REDIS_URL isn't for TLS"),
        ({"REDIS_SENTINEL_USERNAME": "u"}, "REDIS_SENTINEL_USERNAME: given, but REDIS_URL names no Sentinels"),
        ({"REDIS_TLS_CA": "gone.pem", "REDIS_URL": "rediss://h"}, "REDIS_TLS_CA: got 'gone.pem': wanted a file"),
        (
            {"REDIS_TLS_VERIFY": "ca", "REDIS_URL": "rediss://h?ssl_cert_reqs=none"},
            "REDIS_TLS_VERIFY: given, and REDIS_URL has ssl_cert_reqs too",
        ),
        ({"REDIS_TLS_KEY": "a.key", "REDIS_URL": "rediss://h"}, "REDIS_TLS_KEY: given without REDIS_TLS_CERT"),
    ],
    ids=["no-tls", "no-sentinels", "no-file", "two-ways", "half-a-pair"],
)
def test_what_does_not_fit_the_address(given: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that would silently do nothing stops the start, and names both variables."""
    write(Path("a.key"), "")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load()
    assert words in str(caught.value)


def test_the_address_has_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """User, passwords and TLS from variables of their own end in one address, which shows none of them."""
    write(Path("ca.pem"), "")
    for name, value in {
        "REDIS_URL": "rediss+sentinel://s1,s2:1/jobs/3",
        "REDIS_USERNAME": "u",
        "REDIS_PASSWORD": "geheim",
        "REDIS_SENTINEL_PASSWORD": "auch",
        "REDIS_TLS_CA": "ca.pem",
        "REDIS_TLS_VERIFY": "ca",
    }.items():
        monkeypatch.setenv(name, value)
    address = load().redis_address
    assert address.options == {
        "db": 3,
        "username": "u",
        "password": "geheim",
        "ssl_ca_certs": "ca.pem",
        "ssl_check_hostname": False,
    }
    assert address.sentinel_login == {"password": "auch"}
    assert str(address) == "s1:26379,s2:1/jobs/3"
    assert "geheim" not in repr(address)
