"""URLs that let somebody else read or write one blob for a while, without a credential of their own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from azure.storage.blob import BlobSasPermissions, UserDelegationKey, generate_blob_sas

from loom.errors import ConfigurationError

from .session import Session

__all__ = ["Signer", "read_query"]

_LONGEST = timedelta(days=7)
_SKEW = timedelta(minutes=5)
_READ_SECONDS = 3600


def read_query(session: Session, encoded: str) -> str:
    """What a request to read a blob is signed with where the account key signs; empty for an identity."""
    if session.token is not None or session.options.sign_in != "key":
        return ""
    options = session.options
    return generate_blob_sas(
        options.account,
        options.container,
        encoded,
        account_key=options.secret,
        permission=BlobSasPermissions(read=True),
        expiry=datetime.now(UTC) + timedelta(seconds=_READ_SECONDS),
    )


class Signer:
    """Signs URLs by the account key, or, for an identity, by a user delegation key that Azure gives it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._key: tuple[UserDelegationKey, datetime] | None = None

    async def url(self, encoded: str, seconds: float, *, write: bool, content_disposition: str | None) -> str:
        """See AzureBlobStore.signed_url."""
        options = self._session.options
        lasts = timedelta(seconds=seconds)
        if not timedelta(0) < lasts <= _LONGEST:
            raise ValueError(f"seconds={seconds:g}: a signed URL lasts more than none and at most {_LONGEST.days} days")
        expiry = datetime.now(UTC) + lasts
        if self._session.token is None and options.sign_in == "sas":
            raise ConfigurationError(
                f"{options.where}: a SAS cannot sign for others; sign in by identity (role Storage Blob Delegator on "
                "the account, besides Storage Blob Data Contributor) or by key"
            )
        delegation = None if self._session.token is None else await self._delegation(expiry)
        permission = BlobSasPermissions(create=True, write=True) if write else BlobSasPermissions(read=True)
        query = generate_blob_sas(
            options.account,
            options.container,
            encoded,
            account_key=options.secret if delegation is None else None,
            user_delegation_key=delegation,
            permission=permission,
            expiry=expiry,
            protocol="https" if options.endpoint.startswith("https") else None,
            content_disposition=content_disposition,
        )
        return f"{self._session.blob(encoded).url.partition('?')[0]}?{query}"

    async def _delegation(self, expiry: datetime) -> UserDelegationKey:
        """A key that lasts until ``expiry`` at least; one that is in hand is used again."""
        if self._key is None or self._key[1] < expiry:
            now = datetime.now(UTC)
            until = min(max(expiry, now + timedelta(hours=1)), now + _LONGEST)
            service = self._session.service
            key = await self._session.run(lambda: service.get_user_delegation_key(now - _SKEW, until))
            self._key = (key, until)
        return self._key[0]
