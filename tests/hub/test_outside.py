"""Requests outside, before a real server on this machine: where they lead, what is cut, and what is never followed."""

import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hub import outside
from hub.errors import Forbidden, Invalid
from hub.outside import Unreachable

CLOSED = """
127.0.0.1 127.8.8.8 0.0.0.0 10.1.2.3 172.16.0.1 172.31.255.255 192.168.1.1 169.254.169.254 100.64.0.1 100.127.255.255
192.0.0.8 192.0.2.1 198.18.0.1 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 192.88.99.1
:: ::1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b:1::1 fe80::1 fec0::1 fc00::1 fd00::1 ff02::1
2002:7f00:1:: 2002:808:808:: 2001::1 2001:db8::1 100::1 3fff::1 5f00::1
"""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str, dict, bytes]]

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.seen.append((self.command, self.path, dict(self.headers), body))
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("location", "/secret")
            self.send_header("content-length", "0")
            self.end_headers()
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x" * 65_536)
            except OSError:
                pass
        elif self.path == "/drip":
            self.send_response(200)
            self.send_header("content-length", "1000")
            self.end_headers()
            try:
                for _ in range(100):
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.1)
            except OSError:
                pass
        else:
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

    do_GET = _answer  # noqa: N815  (as the library names it)
    do_POST = _answer  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    Handler.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_no_address_of_a_private_or_special_kind_is_public():
    assert [one for one in CLOSED.split() if outside.is_public(ipaddress.ip_address(one))] == []


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450::1"])
def test_public_addresses_are(address):
    assert outside.is_public(ipaddress.ip_address(address))


def test_only_plain_web_addresses_are_taken_apart():
    for bad in (
        "ftp://example.org/",
        "file:///etc/passwd",
        "http://",
        "http:///x",
        "//example.org",
        "http://ann:secret@example.org/",
        "http://example.org:99999/",
        "http://exa mple.org/",
        "http://example.org\\@127.0.0.1/",
        "http://ex\nample.org/",
        "http://b\u00fccher.example/",
        "http://" + "x" * 3_000,
        "javascript:alert(1)",
    ):
        with pytest.raises(Invalid) as refused:
            outside.parse(bad)
        assert refused.value.field == "url"
    target = outside.parse("https://Example.org.:8443/a?b", "Example.org:8443, other:1")
    assert (target.host, target.port, target.is_private_allowed) == ("example.org", 8443, True)
    assert not outside.parse("https://example.org/", "example.org:8443").is_private_allowed


def test_headers_that_are_ours_or_break_out_are_refused():
    for bad in (
        {"Host": "x"},
        {"content-length": "1"},
        {"X\r\nY": "1"},
        {"x": "a\r\nb"},
        {"proxy-auth": "1"},
        {"": "x"},
    ):
        with pytest.raises(Invalid):
            outside.check_headers(bad)
    assert outside.check_headers({"Accept": "text/plain"}) == [(b"Accept", b"text/plain")]


def test_this_machine_is_closed_unless_its_operator_opens_it(server):
    port = server.server_address[1]
    for host in (
        "127.0.0.1",
        "localhost",
        "[::1]",
        "0.0.0.0",
        "127.1",
        "2130706433",
        "0x7f000001",
        "[::ffff:127.0.0.1]",
    ):
        with pytest.raises((Forbidden, Unreachable)):
            outside.request(outside.parse(f"http://{host}:{port}/"), "GET", within_s=2)
    assert Handler.seen == []
    opened = outside.parse(f"http://127.0.0.1:{port}/a?b=1", f"127.0.0.1:{port}")
    answer = outside.request(opened, "POST", headers=[(b"x-own", b"1")], body=b"{}", within_s=5)
    assert (answer.status, answer.body, answer.is_cut) == (200, b"ok", False)
    [(method, path, headers, body)] = Handler.seen
    assert (method, path, body, headers["x-own"], headers["Host"]) == (
        "POST",
        "/a?b=1",
        b"{}",
        "1",
        f"127.0.0.1:{port}",
    )


def test_a_name_is_asked_once_and_what_it_said_counts(server, monkeypatch):
    port = server.server_address[1]
    answers = [[(2, 1, 6, "", ("127.0.0.1", port))], [(2, 1, 6, "", ("10.0.0.1", port))]]
    asked: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host, *rest, **more):
        if not str(host).endswith(".example"):
            return real(host, *rest, **more)  # an address: nobody is asked
        asked.append(host)
        return answers[min(len(asked), 2) - 1]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    opened = outside.parse(f"http://rebinds.example:{port}/", f"rebinds.example:{port}")
    assert outside.request(opened, "GET", within_s=5).body == b"ok"
    assert asked == ["rebinds.example"]
    answers[:] = [[(2, 1, 6, "", ("8.8.8.8", port)), (2, 1, 6, "", ("192.168.0.1", port))]] * 2
    with pytest.raises(Forbidden, match="not in the public internet"):
        outside.request(outside.parse(f"http://mixed.example:{port}/"), "GET", within_s=5)


def test_nothing_is_followed_and_nobody_keeps_us_waiting(server):
    port = server.server_address[1]

    def ask(path, within_s=5.0):
        target = outside.parse(f"http://127.0.0.1:{port}{path}", f"127.0.0.1:{port}")
        return outside.request(target, "GET", within_s=within_s)

    moved = ask("/elsewhere")
    assert (moved.status, moved.headers["location"]) == (302, "/secret")
    assert [path for _, path, _, _ in Handler.seen] == ["/elsewhere"]
    endless = ask("/endless")
    assert (len(endless.body), endless.is_cut) == (outside.ANSWER_MAX, True)
    began = time.monotonic()
    with pytest.raises(Unreachable) as late:
        ask("/drip", within_s=0.5)
    assert late.value.was_sent
    assert time.monotonic() - began < 3
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = closed.getsockname()[1]
    with pytest.raises(Unreachable) as gone:
        outside.request(outside.parse(f"http://127.0.0.1:{nobody}/", f"127.0.0.1:{nobody}"), "GET", within_s=2)
    assert not gone.value.was_sent
