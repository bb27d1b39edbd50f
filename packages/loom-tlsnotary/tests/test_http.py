"""HTTP out of bytes with holes."""

from __future__ import annotations

import gzip

import pytest

from loom.errors import VerificationLimitError
from loom.ports import AuthenticatedBytes, HttpHeader, HttpMessage
from loom_tlsnotary.http import host_of_target, parse_request, parse_response


def part(data: bytes, hole: bytes = b"") -> AuthenticatedBytes:
    if not hole:
        return AuthenticatedBytes(data, ((0, len(data)),))
    start = data.index(hole)
    end = start + len(hole)
    ranges = tuple((a, b) for a, b in ((0, start), (end, len(data))) if a < b)
    return AuthenticatedBytes(data[:start] + bytes(len(hole)) + data[end:], ranges)


def answer(data: bytes, hole: bytes = b"", method: str = "GET") -> HttpMessage:
    found = parse_response(part(data, hole), method)
    assert found is not None
    return found


def test_a_whole_request() -> None:
    found = parse_request(part(b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n"))
    assert found == HttpMessage(
        method="POST", target="/a?b=c",
        headers=(HttpHeader("Host", "x", True), HttpHeader("Content-Length", "3", True)),
        body=b"abc", body_certain=True,
    )  # fmt: skip
    assert found.header("HOST") == "x"
    assert found.header("nothing") is None


def test_a_request_without_length_has_no_body() -> None:
    found = parse_request(part(b"GET / HTTP/1.1\r\n\r\n"))
    assert found is not None
    assert found.body is None


def test_chunks_are_put_together() -> None:
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nWiki\r\n5\r\npedia\r\n0\r\n\r\n"
    assert (answer(data).body, answer(data).body_certain) == (b"Wikipedia", True)
    holed = answer(data, b"kip"[:2])
    assert (holed.body, holed.body_redacted, holed.body_certain) == (b"Wi\0\0pedia", ((2, 4),), True)
    assert answer(data, b"5\r\n").body is None
    cut = answer(data[: data.index(b"dia")])
    assert (cut.body, cut.body_certain) == (b"Wikipe", False)


def test_a_hole_in_a_later_chunk_is_found_at_its_place_in_the_body() -> None:
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nWiki\r\n5\r\npedia\r\n0\r\n\r\n"
    assert answer(data, b"dia").body_redacted == ((6, 9),)


def test_as_many_holes_as_chunks_take_no_more_than_their_number() -> None:
    """Looking at every hole for every chunk would take minutes."""
    chunks = 20_000
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n\0\r\n" * chunks + b"0\r\n\r\n"
    first = data.index(b"\0")
    edges = [0, *(edge for n in range(chunks) for edge in (first + 6 * n, first + 6 * n + 1)), len(data)]
    ranges = tuple(zip(edges[::2], edges[1::2], strict=True))
    found = parse_response(AuthenticatedBytes(data, ranges), "GET")
    assert found is not None
    assert (found.body, len(found.body_redacted), found.body_certain) == (bytes(chunks), chunks, True)


def test_gzip_is_undone_where_nothing_is_missing() -> None:
    packed = gzip.compress(b'{"a":1}' * 100)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    assert answer(head + packed).body == b'{"a":1}' * 100
    assert answer(head + packed, packed[5:7]).body is None
    assert answer(head + packed[:-1]).body is None
    assert answer(head.replace(b"gzip", b"br") + packed).body is None
    chunked = head.partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n"
    assert answer(chunked + b"%x\r\n%s\r\n0\r\n\r\n" % (len(packed), packed)).body == b'{"a":1}' * 100


def test_a_bomb_is_refused() -> None:
    packed = gzip.compress(bytes(64 * 2**20), 9)
    with pytest.raises(VerificationLimitError):
        answer(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed)


@pytest.mark.parametrize(
    ("data", "method"),
    [(b"HTTP/1.1 204 No Content\r\n\r\nleft", "GET"), (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HEAD"),
     (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "GET")],
)  # fmt: skip
def test_answers_without_a_body(data: bytes, method: str) -> None:
    assert answer(data, method=method).body is None


def test_interim_answers_are_passed_over() -> None:
    found = answer(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\n\r\nx")
    assert (found.status, found.body) == (201, b"x")


def test_a_body_that_ends_with_the_session_may_have_been_cut_off() -> None:
    found = answer(b"HTTP/1.1 200 OK\r\n\r\n12345")
    assert (found.body, found.body_certain) == (b"12345", False)


def test_headers_around_a_redaction() -> None:
    data = b"HTTP/1.1 200 OK\r\nA: 1\r\nCookie: SECRET\r\nB: 2\r\nC: 3\r\n\r\nbody"
    found = answer(data, b"SECRET")
    assert found.headers == (
        HttpHeader("A", "1", True), HttpHeader("Cookie", None, False),
        HttpHeader("B", "2", False), HttpHeader("C", "3", False),
    )  # fmt: skip
    assert (found.body, found.body_certain, found.header("b")) == (b"body", False, None)
    assert [header.name for header in answer(data, b"SECRET\r\nB").headers] == ["A", "Cookie", "C"]
    assert [header.name for header in answer(data, b"1\r\n").headers] == ["A", "B", "C"]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK" + b"\r\nX: a" * 1002 + b"\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"",
    ],
    ids=lambda data: repr(data[:50]),
)
def test_what_can_be_read_in_two_ways_is_not_read(data: bytes) -> None:
    assert parse_response(AuthenticatedBytes(data, ((0, len(data)),) if data else ()), "GET") is None


def test_the_authority_of_an_absolute_target() -> None:
    assert host_of_target("https://api.example.com/a?b") == "api.example.com"
    assert host_of_target("/https://api.example.com") is None
    assert host_of_target(None) is None
