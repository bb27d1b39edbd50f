"""One account and database, for all adapters of a URL: opened once, asked with a bounded patience, and counted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any, TypeVar

import msgspec
from azure.cosmos import PartitionKey
from azure.cosmos.aio import ContainerProxy, CosmosClient, DatabaseProxy
from azure.cosmos.documents import ConnectionPolicy
from azure.cosmos.exceptions import CosmosBatchOperationError, CosmosResourceExistsError

from loom.errors import ConfigurationError, StoreUnavailableError, TooLargeError
from loom.plugins import AdapterContext, LoomURL

from .containers import ContainerSpec, Policy, extend
from .failures import FAILURES, Meaning, Refused, meaning_of, retry_after, status_of, unavailable
from .options import CosmosOptions
from .schema import check_schema
from .transport import Transport
from .usage import Usage

__all__ = ["Cosmos", "Item", "Write", "cosmos_from_url", "create", "delete", "replace", "upsert"]

T = TypeVar("T")
Item = dict[str, Any]
Write = tuple[Any, ...]
"""One operation of a transactional batch, as the driver takes it."""

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_REFUSALS = frozenset({404, 409, 412})
_POLICY_ATTEMPTS = 5
_PAGE = 1000


def create(item: Item) -> Write:
    """Write an item where there is none."""
    return ("create", (item,))


def upsert(item: Item) -> Write:
    """Write an item whatever is there."""
    return ("upsert", (item,))


def replace(item: Item, etag: str) -> Write:
    """Write an item in place of the version of that ETag."""
    return ("replace", (item["id"], item), {"if_match_etag": etag})


def delete(id: str, etag: str | None = None) -> Write:
    """Delete an item that is there, of that ETag where one is given."""
    return ("delete", (id,), {} if etag is None else {"if_match_etag": etag})


class Cosmos:
    """The client. ``start`` and ``close`` count their callers; what is under way is waited for by the last ``close``.

    Requests that did not run (throttled, never sent) are sent again for ``retry_for`` seconds, when the account says
    so or after growing pauses; reads also after failures of the account. A write that may have run is never repeated
    here: StoreUnavailableError with ``unknown=True``, and who knows what it meant looks.
    """

    def __init__(self, options: CosmosOptions, *, create: bool = True) -> None:
        self.options = options
        self.usage = Usage()
        self._create = create
        self._users = 0
        self._active = 0
        self._idle = asyncio.Event()
        self._opening = asyncio.Lock()
        self._stack: AsyncExitStack | None = None
        self._client: CosmosClient | None = None
        self._database: DatabaseProxy | None = None
        self._containers: dict[str, ContainerProxy] = {}

    async def start(self) -> None:
        """Connect and read the account. Raises StoreUnavailableError, naming what was tried and the remedy."""
        async with self._opening:
            if self._client is None:
                async with AsyncExitStack() as stack:
                    client = await self._open(stack)
                    self._stack = stack.pop_all()
                self._database = client.get_database_client(self.options.database)
                self._client = client
            self._users += 1

    async def close(self) -> None:
        """Release the connections once nobody uses them any more."""
        self._users -= 1
        if self._users > 0 or self._stack is None:
            return
        while self._active:
            self._idle.clear()
            await self._idle.wait()
        stack, self._stack, self._client = self._stack, None, None
        self._containers.clear()
        await stack.aclose()

    async def account(self) -> Any:
        """The account's properties (``azure.cosmos.DatabaseAccount``), asked anew."""
        client = self._opened()
        return await self.run("reading the account", client._get_database_account)

    async def use(self, spec: ContainerSpec) -> None:
        """See that the container is there and of this release's layout; make it, and the database, where this client
        may make storage. Raises ConfigurationError for one that is laid out differently, StoreUnavailableError.
        """
        if spec.name in self._containers:
            return
        container = self._of(spec.name)
        if await self.properties(spec) is None:
            if not self._create:
                raise StoreUnavailableError(
                    f"Cosmos DB at {self.options.where}: there is no container {spec.name!r}, and this does not make "
                    "one; start the application once, which does",
                    container=spec.name,
                )
            try:
                await self.run(f"creating the container {spec.name!r}", lambda: self._make(spec))
            except StoreUnavailableError as error:
                if error.context.get("status") != 403:
                    raise
                raise self._not_made(spec) from error
            await self.properties(spec)
        await check_schema(self, spec, create=self._create)
        self._containers[spec.name] = container

    async def properties(self, spec: ContainerSpec) -> Item | None:
        """The container as the account describes it, or None. Raises ConfigurationError for another partition key."""
        try:
            found = await self.run(f"reading the properties of {spec.name!r}", self._of(spec.name).read)
        except Refused:
            return None
        paths = (found.get("partitionKey") or {}).get("paths", [])
        if paths != [spec.partition_path]:
            raise ConfigurationError(
                f"Cosmos DB at {self.options.where}: the container {spec.name!r} is partitioned by {', '.join(paths)}, "
                f"and Loom needs {spec.partition_path}, which cannot be changed; name another database, or remove what "
                f"is not Loom's: `az cosmosdb sql container delete {self._az()} --database-name "
                f"{self.options.database} --name {spec.name}`",
                container=spec.name,
                account=self.options.account,
            )
        return dict(found)

    async def has_database(self) -> bool:
        """Whether the database is there."""
        self._opened()
        assert self._database is not None
        try:
            await self.run("looking for the database", self._database.read)
        except Refused:
            return False
        return True

    async def make_database(self) -> None:
        """Make the database where it is missing. StoreUnavailableError tells who may not what to run."""
        name = self.options.database
        try:
            await self.run(f"creating the database {name!r}", self._make_database)
        except StoreUnavailableError as error:
            if error.context.get("status") != 403:
                raise
            raise StoreUnavailableError(
                f"Cosmos DB at {self.options.where}: this identity may not make the database (the data roles never "
                f"may); use an account key, or run `{self.az_database()}`",
                account=self.options.account,
            ) from error

    async def index(self, spec: ContainerSpec, wanted: Policy) -> None:
        """See that the container's policy has the wanted paths and composite indexes. Never takes any away.

        Two clients that extend it at once may each overwrite the other's: both look again until all is there.
        """
        for _ in range(_POLICY_ATTEMPTS):
            properties = await self.properties(spec) or {}
            policy = extend(properties.get("indexingPolicy", {}), wanted)
            if policy is None:
                return
            try:
                await self.run(f"adding indexes to the container {spec.name!r}", partial(self._reindex, spec, policy))
            except StoreUnavailableError as error:
                if error.context.get("status") != 403:
                    raise
                raise self._not_indexed(spec, policy) from error
        raise StoreUnavailableError(
            f"Cosmos DB at {self.options.where}: the indexing policy of {spec.name!r} does not keep the paths that "
            "were added; is another tool resetting it?",
            container=spec.name,
        )

    async def read(self, spec: ContainerSpec, pk: str, id: str) -> Item | None:
        """The item, or None. One request."""
        container = self._of(spec.name)
        try:
            return await self.run(f"reading from {spec.name!r}", lambda: container.read_item(id, pk))
        except Refused as refused:
            if _gone(refused):
                raise unavailable(refused.cause, self.options, f"reading from {spec.name!r}") from refused.cause
            return None

    async def write(self, spec: ContainerSpec, pk: str, writes: Sequence[Write]) -> list[str]:
        """Carry out all of one partition's writes or none, in one request; the new ETags, "" for a delete.

        Raises Refused when a condition does not hold, TooLargeError for more than 2 MB, StoreUnavailableError.
        """
        container, tried = self._of(spec.name), f"writing to {spec.name!r}"

        def send() -> Awaitable[Any]:
            # Made anew for each attempt: the driver takes the ETags out of what it is given.
            return container.execute_item_batch([(*write[:2], dict(*write[2:])) for write in writes], pk)

        try:
            results = await self.run(tried, send, write=True)
        except Refused as refused:
            if not isinstance(refused.cause, CosmosBatchOperationError):
                raise unavailable(refused.cause, self.options, tried) from refused.cause
            raise
        return [str(result.get("eTag") or "") for result in results]

    async def query(
        self, spec: ContainerSpec, text: str, parameters: dict[str, Any], *, pk: str | None, limit: int
    ) -> list[Item]:
        """Up to ``limit`` items, in as few requests as the account's page size allows. None: over all partitions."""
        container = self._of(spec.name)
        given = [{"name": name, "value": value} for name, value in parameters.items()]

        async def ask() -> list[Item]:
            scope: dict[str, Any] = {} if pk is None else {"partition_key": pk}
            found: list[Item] = []
            async for item in container.query_items(text, parameters=given, max_item_count=min(limit, _PAGE), **scope):
                found.append(item)
                if len(found) >= limit:
                    break
            return found

        return await self.run(f"querying {spec.name!r}", ask)

    async def run(self, tried: str, request: Callable[[], Awaitable[T]], *, write: bool = False) -> T:
        """Carry out one request with a bounded patience."""
        self._opened()
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + self.options.retry_for, _FIRST_PAUSE
        self._active += 1
        try:
            while True:
                try:
                    return await request()
                except FAILURES as error:
                    meaning = meaning_of(error)
                    if status_of(error) in _REFUSALS:
                        raise Refused(status_of(error), getattr(error, "error_index", 0) or 0, error) from error
                    if status_of(error) == 413 or _too_large(error):
                        raise TooLargeError(
                            f"Cosmos DB at {self.options.where}: {tried}: it takes 2 MB at once, and this is more"
                        ) from error
                    unknown = write and meaning is Meaning.UNKNOWN
                    wait = retry_after(error) or pause * random.uniform(0.5, 1.0)
                    left = deadline - loop.time()
                    if unknown or meaning is Meaning.REFUSED or wait > left:
                        raise unavailable(error, self.options, tried, unknown=unknown) from error
                    await asyncio.sleep(wait)
                    pause = min(pause * 2, _LONGEST_PAUSE)
        finally:
            self._active -= 1
            if not self._active:
                self._idle.set()

    async def _open(self, stack: AsyncExitStack) -> CosmosClient:
        options = self.options
        credential: Any = options.key
        if not credential:
            from azure.identity.aio import DefaultAzureCredential

            credential = await stack.enter_async_context(DefaultAzureCredential())
        policy = ConnectionPolicy()
        # The driver would also repeat writes whose connection broke, and then take our own entry for another's.
        policy.RetryOptions = type(policy.RetryOptions)(max_retry_attempt_count=0)
        settings: dict[str, Any] = {"preferred_locations": [options.region]} if options.region else {}
        if options.emulator:
            settings |= {"connection_verify": False, "enable_endpoint_discovery": False}
        client = CosmosClient(
            options.endpoint,
            credential,
            connection_policy=policy,
            connection_timeout=options.connect_timeout,
            read_timeout=options.timeout,
            retry_connect=0,
            retry_read=0,
            retry_status=0,
            raw_response_hook=self.usage.count,
            transport=Transport(options.timeout),
            **settings,
        )
        # A client whose opening fails or is cancelled does not close what it has opened.
        stack.push_async_callback(client.client_connection.pipeline_client.close)
        try:
            return await stack.enter_async_context(client)
        except FAILURES as error:
            raise unavailable(error, options, "opening the account") from error

    async def _make(self, spec: ContainerSpec) -> None:
        await self._make_database()
        assert self._database is not None
        with suppress(CosmosResourceExistsError):  # another host has made it just now
            await self._database.create_container_if_not_exists(
                spec.name,
                PartitionKey(path=spec.partition_path),
                indexing_policy=spec.policy,
                default_ttl=-1 if spec.ttl else None,
            )

    async def _make_database(self) -> None:
        with suppress(CosmosResourceExistsError):
            await self._opened().create_database_if_not_exists(self.options.database)

    def az_database(self) -> str:
        """The command that makes the database."""
        return f"az cosmosdb sql database create {self._az()} --name {self.options.database}"

    def az_container(self, spec: ContainerSpec) -> str:
        """The command that makes a container."""
        return (
            f"az cosmosdb sql container create {self._az()} --database-name {self.options.database} --name {spec.name} "
            f"--partition-key-path {spec.partition_path}{' --ttl -1' if spec.ttl else ''} --idx '{_json(spec.policy)}'"
        )

    def _not_made(self, spec: ContainerSpec) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"Cosmos DB at {self.options.where}: there is no container {spec.name!r}, and this identity may not make "
            "one (the data roles never may); run `loom cosmos init` with an account key, or "
            f"`{self.az_database()}` and `{self.az_container(spec)}`",
            container=spec.name,
            account=self.options.account,
        )

    def _not_indexed(self, spec: ContainerSpec, policy: Policy) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"Cosmos DB at {self.options.where}: the container {spec.name!r} lacks indexes that a collection declares, "
            "and this identity may not add them (the data roles never may); start once with an account key, or run "
            f"`az cosmosdb sql container update {self._az()} --database-name {self.options.database} "
            f"--name {spec.name} --idx '{_json(policy)}'`",
            container=spec.name,
            account=self.options.account,
        )

    def _az(self) -> str:
        return f"--account-name {self.options.account} --resource-group GROUP"

    async def _reindex(self, spec: ContainerSpec, policy: Policy) -> None:
        assert self._database is not None
        await self._database.replace_container(
            spec.name,
            PartitionKey(path=spec.partition_path),
            indexing_policy=policy,
            default_ttl=-1 if spec.ttl else None,
        )

    def _of(self, name: str) -> ContainerProxy:
        self._opened()
        assert self._database is not None
        return self._containers.get(name) or self._database.get_container_client(name)

    def _opened(self) -> CosmosClient:
        if self._client is None:
            raise StoreUnavailableError(f"Cosmos DB at {self.options.where}: not started, or closed")
        return self._client


def _json(policy: Policy) -> str:
    return msgspec.json.encode(policy).decode()


def _gone(refused: Refused) -> bool:
    # 1003: not the item, but its container is not there.
    return getattr(refused.cause, "sub_status", None) == 1003


def _too_large(error: BaseException) -> bool:
    # A batch answers for itself what a single write answers by its status.
    return isinstance(error, CosmosBatchOperationError) and status_of(error) == 413


def cosmos_from_url(url: LoomURL, context: AdapterContext) -> Cosmos:
    """The client of ``url``, shared with the other adapters of the context. Raises ConfigurationError."""
    options = CosmosOptions.from_url(url)
    return context.shared(f"cosmos:{url.raw}", lambda: Cosmos(options, create=context.create))
