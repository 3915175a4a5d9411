"""compose.yaml keeps its rules: nobody is root, nothing can be written, no secret stands in it, doors are few."""

import re
from pathlib import Path

import pytest
import yaml

from hub.settings import Settings

from .conftest import DEPLOY, ROOT, with_defaults

NAMES = set(yaml.safe_load((ROOT / "compose.yaml").read_text())["services"])
ONCE = {"secrets", "prepare"}
OURS = {"secrets", "prepare", "broker", "hub", "web", "embedded"}
# Read by deploy/prepare.py and marvain/instance.py rather than by the settings of the services.
OTHER_VARIABLES = {"MARVAIN_PUBLIC_WEB", "MARVAIN_DATA"}


@pytest.fixture(params=sorted(NAMES))
def service(request, services):
    return services[request.param] | {"name": request.param}


def test_nothing_gives_a_container_more_than_it_needs(service):
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert 0 < service["pids_limit"] <= 512
    allowed = {
        *("image", "build", "user", "command", "environment", "depends_on", "networks", "network_mode", "ports"),
        *("volumes", "tmpfs", "healthcheck", "profiles", "restart", "init", "read_only", "cap_drop", "security_opt"),
        *("pids_limit", "logging", "shm_size", "stop_grace_period", "group_add", "name"),
    }
    # Whoever adds privileged, cap_add, devices, pid, ipc or the like has to say so here as well.
    assert set(service) <= allowed


def test_nobody_is_root(service):
    uid, gid = map(int, service["user"].split(":"))
    assert uid > 0
    assert gid > 0


def test_logs_cannot_fill_the_disk(service):
    assert service["logging"] == {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}


def test_who_stays_is_looked_after(service):
    if service["name"] in ONCE:
        assert service["restart"] == "no"
        return
    assert service["restart"] in ("unless-stopped", "on-failure:5")
    health = service["healthcheck"]
    assert health["test"][0] in ("CMD", "CMD-SHELL")
    assert {"interval", "timeout", "retries"} <= set(health)


def test_no_secret_stands_in_the_file(service):
    for name, value in (service.get("environment") or {}).items():
        if re.search(r"PASS|TOKEN|SECRET|KEY", name):
            assert name.endswith("FILE"), name
            assert value.startswith(("/var/lib/marvain/secrets/", "/run/marvain/")), name
        assert not re.search(r"://[^/@]*:[^/@]+@", str(value)), f"{name} has a password in its URL"
    words = " ".join([*service.get("command", []), *service.get("healthcheck", {}).get("test", [])])
    assert not re.search(r"(?i)password|token\\b|\s(-P|-pw)\b", words)


def test_files_of_the_host_are_read_only_and_ours(service, compose):
    for volume in service.get("volumes", []):
        source, target, *mode = volume.split(":")
        assert target.startswith("/")
        if source in compose["volumes"]:
            continue
        assert source.startswith("./deploy/"), volume
        assert (ROOT / source).is_file()
        assert mode == ["ro"]


def test_only_who_makes_the_secrets_may_write_them(service):
    for volume in service.get("volumes", []):
        if volume.startswith("secrets:"):
            assert volume.endswith(":ro") == (service["name"] != "secrets")


def test_what_is_written_is_a_named_volume_or_memory(services):
    assert {"/tmp", "/var/run/postgresql"} <= set(services["postgres"]["tmpfs"])
    assert "postgres:/var/lib/postgresql/data" in services["postgres"]["volumes"]
    # Its image would have an unnamed volume here.
    assert "/mosquitto/log" in services["mosquitto"]["tmpfs"]
    assert "mosquitto:/mosquitto/data" in services["mosquitto"]["volumes"]


def test_all_volumes_and_networks_are_declared_and_used(services, compose):
    volumes = {one.split(":")[0] for service in services.values() for one in service.get("volumes", [])}
    assert {name for name in volumes if not name.startswith(".")} == set(compose["volumes"])
    networks = {name for service in services.values() for name in service.get("networks", [])}
    assert networks == set(compose["networks"])


def test_nothing_but_the_services_reaches_the_database(services, compose):
    assert compose["networks"]["database"] == {"internal": True}
    assert services["postgres"]["networks"] == ["database"]
    assert services["secrets"]["network_mode"] == "none"
    with_database = {name for name, service in services.items() if "database" in service.get("networks", [])}
    assert with_database == {"postgres", "prepare", "broker", "hub", "web"}


def test_doors_are_on_this_machine_alone_unless_said(services):
    assert {name for name, service in services.items() if "ports" in service} == {"mosquitto", "web", "embedded"}
    for service in services.values():
        for port in service.get("ports", []):
            assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", with_defaults(port)), port


def test_profiles(services):
    plain = {name for name, service in services.items() if "profiles" not in service}
    assert plain == {"secrets", "postgres", "prepare", "mosquitto", "broker", "hub", "web"}
    assert services["satellite"]["profiles"] == ["example"]
    assert services["embedded"]["profiles"] == ["embedded"]
    # Alone: nothing else is started for it.
    assert "depends_on" not in services["embedded"]


def test_order_of_the_start(services):
    def waits(name: str) -> dict[str, str]:
        return {other: how["condition"] for other, how in services[name].get("depends_on", {}).items()}

    assert waits("postgres") == {"secrets": "service_completed_successfully"}
    assert waits("prepare") == {"postgres": "service_healthy"}
    assert waits("broker")["mosquitto"] == "service_healthy"
    for name in ("broker", "hub", "web"):
        assert waits(name)["prepare"] == "service_completed_successfully"


def test_images(services):
    assert services["postgres"]["image"] == "pgvector/pgvector:pg17"
    assert services["mosquitto"]["image"] == "eclipse-mosquitto:2"
    for name in OURS:
        assert (services[name]["image"], services[name]["build"]) == ("marvain", ".")
    assert services["satellite"]["build"] == {"context": ".", "target": "satellite"}


def test_the_secret_of_each_has_its_group(services):
    command = services["secrets"]["command"]
    groups = [services[name]["user"].split(":")[1] for name in ("postgres", "mosquitto")]
    assert command[-2:] == groups
    assert services["secrets"]["group_add"] == groups


@pytest.mark.parametrize("name", ["prepare", "broker", "hub", "web"])
def test_the_services_understand_their_settings(name, services, monkeypatch):
    given = {key: with_defaults(value) for key, value in services[name]["environment"].items()}
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    settings = Settings()
    known = {f"MARVAIN_{field.upper()}" for field in Settings.model_fields} | OTHER_VARIABLES
    assert {key for key in given if key.startswith("MARVAIN_")} <= known
    assert (settings.broker, settings.broker_adapter, settings.mqtt_host) == ("external", "dynsec", "mosquitto")


def test_mosquitto_lets_nobody_in_by_itself():
    lines = (DEPLOY / "mosquitto.conf").read_text().splitlines()
    facts = [line for line in lines if line and not line.startswith("#")]
    assert "allow_anonymous false" in facts
    assert "per_listener_settings false" in facts
    assert "plugin /usr/lib/mosquitto_dynamic_security.so" in facts
    assert not [
        line for line in facts if re.match(r"allow_anonymous true|password_file|acl_file|bridge|connection ", line)
    ]


def test_the_image_is_pinned_checked_and_not_roots():
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    stages: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("FROM "):
            _, base, _, name = line.split()
            assert base in stages or re.fullmatch(r"python:3\.\d+-slim-\w+", base), base
            stages[name] = []
        elif stages:
            stages[name].append(line)
    assert list(stages) == ["build", "runtime", "satellite", "marvain"]
    for name in ("satellite", "marvain"):
        assert [line for line in stages[name] if line.startswith("USER ")] == ["USER 10001:10001"]
        after = [line for line in stages[name][stages[name].index("USER 10001:10001") + 1 :] if line]
        assert [line.split()[0] for line in after] == ["CMD"]
    installs = [
        part for line in lines for part in re.split(r"&&", line) if re.search(r"pip \S*.*(install|wheel) ", part)
    ]
    assert len(installs) >= 5
    for part in installs:
        # From the index with hashes; else from what was so checked, or from this tree with no dependencies.
        assert "--require-hashes" in part or "--no-index" in part or "--no-build-isolation --no-deps" in part, part


def test_what_the_image_copies_goes_to_the_engine_and_is_there():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert next(line for line in ignored if line and not line.startswith("#")) == "*"
    sent = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = set()
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            copied |= set(line.split()[1:-1])
    assert copied - {"deploy/keep_token.py"} == sent
    assert [name for name in copied if not list(ROOT.glob(name))] == []
    scripts = {Path(word).name for line in _commands() for word in line if "/opt/deploy/" in word}
    assert scripts == {"make_secrets.py", "prepare.py", "health.py"}
    assert all((DEPLOY / name).is_file() for name in scripts)


def _commands() -> list[list[str]]:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].values()
    return [
        *(service["command"] for service in services if "command" in service),
        *(service["healthcheck"]["test"] for service in services if "healthcheck" in service),
    ]
