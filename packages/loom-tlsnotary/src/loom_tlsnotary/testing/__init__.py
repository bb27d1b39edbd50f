r"""For users' own tests: a notary, a server and a verifier that belong together. None is evidence of anything.

    notary = TestNotary()
    presentation = notary.present(response=b'HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{"balance":42}', …)
    async with TestTLSNotaryVerifier(options) as verifier: …

The notary signs whatever it is handed: there is no TLS session and no server, and its secret key is published here.
What is real is the verification: TestTLSNotaryVerifier runs the official module with one change, that it trusts the
test authority. All are refused in production, and the real verifier takes none of it: to it the server's certificate
is signed by nobody.
"""

from .notary import TestNotary
from .verifier import TestTLSNotaryVerifier, test_module

__all__ = ["TestNotary", "TestTLSNotaryVerifier", "test_module"]
