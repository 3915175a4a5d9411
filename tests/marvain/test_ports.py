"""Choosing ports: refusals, preferences, and never the same one twice."""

import socket

import pytest

from marvain import ports
from marvain.instance import Ports
from marvain.refusal import PortTaken


@pytest.fixture
def held() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def test_an_asked_port_that_is_taken_is_refused(held: int) -> None:
    with pytest.raises(PortTaken, match=f"--ws-port {held}"):
        ports.choose("127.0.0.1", Ports(ws=held), Ports())


def test_one_port_asked_twice_is_refused() -> None:
    with pytest.raises(PortTaken, match="twice"):
        ports.choose("127.0.0.1", Ports(ws=45_871, mqtt=45_871), Ports())


def test_a_host_that_cannot_be_bound_is_refused() -> None:
    with pytest.raises(PortTaken, match=r"192\.0\.2\.1"):
        ports.choose("192.0.2.1", Ports(), Ports())


def test_the_last_port_is_preferred_and_replaced_when_taken(held: int) -> None:
    chosen = ports.choose("127.0.0.1", Ports(), Ports(mqtt=held))
    assert chosen.mqtt > held
    assert any(str(held) in note for note in chosen.notes)
    assert len({chosen.web, chosen.mqtt, chosen.ws}) == 3


def test_an_asked_port_is_not_given_to_another(held: int) -> None:
    chosen = ports.choose("127.0.0.1", Ports(ws=held + 1), Ports(mqtt=held)) if held < 65_000 else None
    assert chosen is None or chosen.mqtt not in {held, held + 1}
