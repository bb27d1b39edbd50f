"""The checks that the module leaves to its user: each refuses by an error of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from loom.errors import (
    FieldNotAuthenticatedError,
    HostMismatchError,
    IdentityMissingError,
    InvalidKeyError,
    NotaryNotTrustedError,
    PresentationExpiredError,
    PresentationFromFutureError,
    ServerNameMismatchError,
    TLSNotaryError,
    TranscriptMissingError,
    UnauthenticatedDataError,
)
from loom.ports import AuthenticatedBytes, NotaryKey, TLSNotaryPolicy, TLSNotaryVerdict
from loom_tlsnotary.checks import judge
from loom_tlsnotary.opened import Opened

NOW = 1_760_000_000
KEY = NotaryKey("secp256k1", b"\2" + bytes(32))
OTHER_CURVE = NotaryKey("secp256r1", KEY.data)
REQUEST = b"GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def whole(data: bytes) -> AuthenticatedBytes:
    return AuthenticatedBytes(data, ((0, len(data)),))


def hidden(data: bytes, *texts: bytes) -> AuthenticatedBytes:
    """``data`` with the texts withheld."""
    shown, holes = bytearray(data), []
    for text in texts:
        at = data.index(text)
        shown[at : at + len(text)] = bytes(len(text))
        holes.append((at, at + len(text)))
    edges = [0, *(edge for hole in sorted(holes) for edge in hole), len(data)]
    return AuthenticatedBytes(
        bytes(shown), tuple((a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b)
    )


def judged(asked: str = "api.example.com", **changed: Any) -> TLSNotaryVerdict:
    given: dict[str, Any] = {
        "notary_key": KEY, "time": NOW - 10, "server_name": "api.example.com",
        "sent": whole(REQUEST), "received": whole(RESPONSE),
    }  # fmt: skip
    policy = changed.pop("policy", TLSNotaryPolicy())
    return judge(
        Opened(**{**given, **changed}), proof_hash="00", server_name=asked, policy=policy, trusted=(KEY,),
        now=NOW, max_age=60, max_skew=5,
    )  # fmt: skip


def test_what_passes_every_check_is_verified() -> None:
    verdict = judged()
    assert (verdict.verified, verdict.server_name, verdict.request.target) == (True, "api.example.com", "/")
    assert verdict.response is not None
    assert (verdict.response.status, verdict.response.body, verdict.response.body_certain) == (200, b"{}", True)


def test_names_are_compared_without_case() -> None:
    assert judged("API.Example.COM", server_name="api.EXAMPLE.com").server_name == "api.example.com"


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"notary_key": OTHER_CURVE}, NotaryNotTrustedError),
        ({"notary_key": NotaryKey("secp256k1", b"\3" + bytes(32))}, NotaryNotTrustedError),
        ({"time": NOW - 61}, PresentationExpiredError),
        ({"time": 0}, PresentationExpiredError),
        ({"time": NOW + 6}, PresentationFromFutureError),
        ({"time": 2**64 - 1}, PresentationFromFutureError),
        ({"server_name": None}, IdentityMissingError),
        ({"sent": None}, TranscriptMissingError),
        ({"received": None}, TranscriptMissingError),
        ({"server_name": "www.example.com"}, ServerNameMismatchError),
        ({"server_name": "*.example.com"}, ServerNameMismatchError),
        ({"server_name": "api.example.com."}, ServerNameMismatchError),
        ({"sent": AuthenticatedBytes(REQUEST, ((0, 20),))}, UnauthenticatedDataError),
        ({"sent": AuthenticatedBytes(REQUEST, ((0, 999),))}, UnauthenticatedDataError),
        ({"sent": AuthenticatedBytes(REQUEST, ((20, len(REQUEST)), (0, 20)))}, UnauthenticatedDataError),
        ({"received": AuthenticatedBytes(RESPONSE, ())}, UnauthenticatedDataError),
        ({"received": AuthenticatedBytes(RESPONSE, ((5, 5),))}, UnauthenticatedDataError),
    ],
    ids=str,
)
def test_each_check_has_an_error_of_its_own(changed: dict[str, Any], error: type[TLSNotaryError]) -> None:
    with pytest.raises(error):
        judged(**changed)


def test_the_edges_of_age_are_allowed() -> None:
    assert judged(time=NOW - 60).time == NOW - 60
    assert judged(time=NOW + 5).time == NOW + 5
    assert judged(time=NOW - 60, policy=TLSNotaryPolicy(max_age=60)).verified
    with pytest.raises(PresentationExpiredError):
        judged(time=NOW - 2, policy=TLSNotaryPolicy(max_age=1))


@pytest.mark.parametrize("name", ["", "*.example.com", "api.example.com:443", "https://x", "a..b", "a.b.", "bücher.de"])
def test_only_an_exact_name_may_be_asked_for(name: str) -> None:
    with pytest.raises(InvalidKeyError):
        judged(name)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: api.example.com\r\nHost: www.example.com\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: api.example.com\r\nhost: api.example.com\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: api.example.com.evil.net\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: api.example.com:x\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\nHost: api.example.com\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\r\n Host: api.example.com\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : api.example.com\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: api.example.com\0\r\n\r\n",
        b"GET http://www.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        b"GET http://me@api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\nGET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        b"GET / HTTP/2\r\nHost: api.example.com\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"",
    ],
    ids=repr,
)
def test_a_request_that_does_not_name_the_host_is_refused(request_bytes: bytes) -> None:
    with pytest.raises(HostMismatchError):
        judged(sent=AuthenticatedBytes(request_bytes, ((0, len(request_bytes)),) if request_bytes else ()))


@pytest.mark.parametrize("host", [b"api.example.com", b"API.example.com", b"api.example.com:8443"])
def test_a_host_in_any_case_and_with_a_port_agrees(host: bytes) -> None:
    assert judged(sent=whole(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")).verified


def test_a_host_behind_a_redaction_is_not_proven() -> None:
    """The redaction could hide the end of the headers, and what looks like a header be the body's text."""
    request = b"POST / HTTP/1.1\r\nX: SECRET\r\nHost: api.example.com\r\n\r\n"
    with pytest.raises(HostMismatchError):
        judged(sent=hidden(request, b"SECRET"))
    assert judged(sent=hidden(request.replace(b"X: SECRET\r\n", b"") + b"SECRET", b"SECRET")).verified
    with pytest.raises(HostMismatchError):
        judged(sent=hidden(REQUEST, b".example"))


def test_another_host_behind_a_redaction_is_a_contradiction() -> None:
    request = b"GET / HTTP/1.1\r\nHost: api.example.com\r\nX: SECRET\r\nHost: www.example.com\r\n\r\n"
    with pytest.raises(HostMismatchError):
        judged(sent=hidden(request, b"SECRET"))


BODY = b'{"user":{"name":"Ann","balance":12.5},"list":[1,{"a/b":true}],"z":null}'
RICH = b"HTTP/1.1 200 OK\r\nSet-Cookie: SECRET\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY

Part = Callable[[], AuthenticatedBytes]


@pytest.mark.parametrize(
    ("pointer", "value"),
    [("/user/balance", 12.5), ("/user", {"name": "Ann", "balance": 12.5}), ("/list/1/a~1b", True), ("/z", None),
     ("/list/0", 1), ("", {"user": {"name": "Ann", "balance": 12.5}, "list": [1, {"a/b": True}], "z": None})],
)  # fmt: skip
def test_a_field_of_a_whole_body_is_proven(pointer: str, value: object) -> None:
    verdict = judged(received=whole(RICH), policy=TLSNotaryPolicy(require_fields=(pointer,)))
    assert verdict.fields == {pointer: value}


@pytest.mark.parametrize(
    "pointer", ["/nobody", "/user/nobody", "/list/2", "/list/01", "/list/-", "/z/a", "user", "/a~2"]
)
def test_a_field_that_is_not_there_is_refused(pointer: str) -> None:
    with pytest.raises(FieldNotAuthenticatedError):
        judged(received=whole(RICH), policy=TLSNotaryPolicy(require_fields=(pointer,)))


@pytest.mark.parametrize(
    ("withheld", "proven", "refused"),
    [
        (b'"list":[1,{"a/b":true}],"z":null}', ["/user/balance", "/user/name"], ["/list", "/z", ""]),
        (b"Ann", [], ["/user/balance", "/user/name", "/z", "/user"]),
        (b".5", ["/user/name"], ["/user/balance"]),
        (b"5},", ["/user/name"], ["/user/balance"]),
        (b'true}],"z":null}', ["/user", "/list/0"], ["/list/1", "/list/1/a~1b", "/list"]),
        (b"}", [], []),
    ],
)
def test_a_field_is_proven_only_with_all_that_stands_before_it(
    withheld: bytes, proven: list[str], refused: list[str]
) -> None:
    part = hidden(RICH, withheld)
    for pointer in proven:
        assert pointer in judged(received=part, policy=TLSNotaryPolicy(require_fields=(pointer,))).fields
    for pointer in refused:
        with pytest.raises(FieldNotAuthenticatedError):
            judged(received=part, policy=TLSNotaryPolicy(require_fields=(pointer,)))


def test_a_body_behind_redacted_headers_needs_trust() -> None:
    part = hidden(RICH, b"SECRET")
    with pytest.raises(FieldNotAuthenticatedError, match="trust_framing"):
        judged(received=part, policy=TLSNotaryPolicy(require_fields=("/z",)))
    policy = TLSNotaryPolicy(require_fields=("/z",), trust_framing=True)
    assert judged(received=part, policy=policy).fields == {"/z": None}


@pytest.mark.parametrize(
    "body",
    [b'{"a":1,"a":2}', b'{"a":NaN}', b"\xff\xfe", b'{"a":1', b"[" * 100_000, b'{"a":1}x', b""],
    ids=lambda body: repr(body[:20]),
)
def test_a_body_that_can_be_read_in_two_ways_proves_no_field(body: bytes) -> None:
    response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with pytest.raises(FieldNotAuthenticatedError):
        judged(received=whole(response), policy=TLSNotaryPolicy(require_fields=("/a",)))
