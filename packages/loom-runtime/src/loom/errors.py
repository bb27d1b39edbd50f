"""Every error that Loom raises, as one tree.

    LoomError
     +-- PortError                      something a port (a store, a queue, a lock) refused
     |    +-- JournalError
     |    |    +-- JournalConflictError     the head is not the one expected
     |    |    |    +-- FencedError         a newer owner has written
     |    |    +-- JournalGapError          entries between snapshot and head are gone
     |    |    +-- CorruptEntryError        an entry exists and cannot be read
     |    +-- QueueError
     |    |    +-- LeaseLostError           a delivery's lease ended before ack, nack or extend
     |    +-- LockError
     |    |    +-- LockLostError            the lease is no longer the holder's
     |    |    +-- LockTimeoutError         the lock stayed taken for the whole wait
     |    +-- DocumentError
     |    |    +-- DocumentConflictError    ETag differs, or create-only met an existing document
     |    |    +-- UnindexedQueryError      the collection declares no index for this query
     |    +-- BlobError
     |    |    +-- BlobNotFoundError
     |    |    +-- BlobConflictError
     |    +-- IdempotencyError
     |    |    +-- IdempotencyTakenError    another caller holds the key
     |    +-- SecretError
     |    |    +-- SecretNotFoundError
     |    |    +-- SecretDisabledError
     |    |    +-- SecretExpiredError
     |    |    +-- SecretNotYetValidError   its time has not come
     |    |    +-- SecretDeletedError       the name belongs to a deleted secret that can be recovered
     |    |    +-- SecretConflictError      others wrote the secret again and again meanwhile
     |    +-- SealError                    sealed bytes were changed, moved, or sealed by another key
     |    |    +-- SealKeyError             the keyring does not hold the key that sealed them
     |    +-- CoordinationError
     |    |    +-- NotAMemberError          this member was declared dead or never joined
     |    |    +-- ShardCountError          the fleet was started with another number of shards
     |    +-- TLSNotaryError                a presentation was refused; each of these is a check that failed
     |    |    +-- PresentationFormatError     not of the format that is verified here
     |    |    +-- PresentationInvalidError    a signature, hash or certificate is wrong
     |    |    +-- NotaryNotTrustedError       signed by a key that is not in the allow-list
     |    |    +-- PresentationExpiredError    older than it may be
     |    |    +-- PresentationFromFutureError of a time that has not come
     |    |    +-- IdentityMissingError        does not say which server it is of
     |    |    +-- TranscriptMissingError      does not show what was said
     |    |    +-- ServerNameMismatchError     of another server
     |    |    +-- HostMismatchError           the proven request does not name the server as its host
     |    |    +-- UnauthenticatedDataError    shows data that is not proven
     |    |    +-- FieldNotAuthenticatedError  a field that the policy requires is not proven
     |    |    +-- VerificationLimitError      wants more memory, work or time than it gets
     |    +-- StoreUnavailableError         the backend cannot be reached or written (disk full, read only, down)
     |    +-- TooLargeError                 a value exceeds what the store or the runtime accepts
     |    +-- InvalidKeyError               a name or key that the port's contract forbids
     +-- ConfigurationError
     |    +-- UnknownSchemeError
     |    +-- PluginError
     |    +-- SecretReferenceError          a ${secret:name} in the configuration leads nowhere, or in a circle
     |    +-- ProductionGuardError
     |    +-- DefinitionError               an actor or a workflow is declared wrongly
     +-- CallError                      a call or a run did not give a result
          +-- UnknownActorError             nobody serves this type
          +-- UnknownMethodError
          +-- UnknownWorkflowError
          +-- InvalidArgumentsError
          +-- InvalidResultError
          +-- IdempotencyConflictError
          +-- OutcomeUnknownError           it may or may not have happened; retry under the same request id
          +-- MessageExpiredError           it was not run: its life had ended
          +-- OverloadedError               the mailbox is full; nothing was run
          +-- TurnDeadlineError             the turn took longer than it may; nothing was committed
          +-- CallCycleError
          +-- TurnClosedError               a task touched its turn after the turn had ended
          +-- ReadOnlyViolationError
          +-- LeftoverTasksError            a handler returned while tasks that it had started still ran
          +-- StateDecodeError              stored state does not fit the state type
          +-- StateVersionError             stored state was written by newer code
          +-- NonDeterminismError           a workflow's replay differs from its journal
          +-- StepFailedError
          +-- WorkflowFailedError
          +-- WorkflowCancelledError
          +-- RunNotFoundError
          +-- SerializationError
          +-- NotRunningError               the app, client or host is not started, or is stopping
          +-- RemoteError                   an exception whose own type is not importable here

``code`` is stable: it does not change between releases, whatever becomes of the text. ``context`` holds the ids
that a person needs to find the thing, and is what ``--json`` prints.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "BlobConflictError",
    "BlobError",
    "BlobNotFoundError",
    "CallCycleError",
    "CallError",
    "ConfigurationError",
    "CoordinationError",
    "CorruptEntryError",
    "DefinitionError",
    "DocumentConflictError",
    "DocumentError",
    "EphemeralAdapterWarning",
    "FencedError",
    "FieldNotAuthenticatedError",
    "HostMismatchError",
    "IdempotencyConflictError",
    "IdempotencyError",
    "IdempotencyTakenError",
    "IdentityMissingError",
    "InvalidArgumentsError",
    "InvalidKeyError",
    "InvalidResultError",
    "JournalConflictError",
    "JournalError",
    "JournalGapError",
    "LeaseLostError",
    "LeftoverTasksError",
    "LockError",
    "LockLostError",
    "LockTimeoutError",
    "LoomError",
    "MessageExpiredError",
    "NonDeterminismError",
    "NotAMemberError",
    "NotRunningError",
    "NotaryNotTrustedError",
    "OutcomeUnknownError",
    "OverloadedError",
    "PluginError",
    "PortError",
    "PresentationExpiredError",
    "PresentationFormatError",
    "PresentationFromFutureError",
    "PresentationInvalidError",
    "ProductionGuardError",
    "QueueError",
    "ReadOnlyViolationError",
    "RemoteError",
    "RunNotFoundError",
    "SealError",
    "SealKeyError",
    "SecretConflictError",
    "SecretDeletedError",
    "SecretDisabledError",
    "SecretError",
    "SecretExpiredError",
    "SecretNotFoundError",
    "SecretNotYetValidError",
    "SecretReferenceError",
    "SerializationError",
    "ServerNameMismatchError",
    "ShardCountError",
    "StateDecodeError",
    "StateVersionError",
    "StepFailedError",
    "StoreUnavailableError",
    "TLSNotaryError",
    "TooLargeError",
    "TranscriptMissingError",
    "TurnClosedError",
    "TurnDeadlineError",
    "UnauthenticatedDataError",
    "UnindexedQueryError",
    "UnknownActorError",
    "UnknownMethodError",
    "UnknownSchemeError",
    "UnknownWorkflowError",
    "VerificationLimitError",
    "WorkflowCancelledError",
    "WorkflowFailedError",
]


class LoomError(Exception):
    """The root. ``LoomError("what happened and what would be right", stream="actor/Account/alice", seq=4)``."""

    code: ClassVar[str] = "loom"

    def __init__(self, message: str = "", **context: Any) -> None:
        super().__init__(message)
        self.context: dict[str, Any] = context

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def _rebuild(cls: type[LoomError], args: tuple[Any, ...], attributes: dict[str, Any]) -> LoomError:
    error = cls.__new__(cls, *args)
    Exception.__init__(error, *args)
    error.__dict__.update(attributes)
    return error


class PortError(LoomError):
    """A port refused or failed. Unless a subclass says so, nothing was changed."""

    code = "port"


class StoreUnavailableError(PortError):
    """The backend cannot be reached or written: down, disk full, read-only file.

    ``unknown`` is True when the operation may nevertheless have taken effect (a connection cut after the request
    was sent); the caller must then re-read before it says anything about the outcome.
    """

    code = "port.unavailable"

    def __init__(self, message: str = "", *, unknown: bool = False, **context: Any) -> None:
        super().__init__(message, unknown=unknown, **context)
        self.unknown = unknown


class TooLargeError(PortError):
    code = "port.too_large"


class InvalidKeyError(PortError):
    code = "port.invalid_key"


class JournalError(PortError):
    code = "journal"


class JournalConflictError(JournalError):
    """The stream's head is not the expected one; nothing was appended. ``head`` is the head that was found."""

    code = "journal.conflict"

    def __init__(self, message: str = "", *, head: Any = None, **context: Any) -> None:
        super().__init__(message, **context)
        self.head = head


class FencedError(JournalConflictError):
    """The append carried a lower fence than the head's: another owner has taken over."""

    code = "journal.fenced"


class JournalGapError(JournalError):
    code = "journal.gap"


class CorruptEntryError(JournalError):
    code = "journal.corrupt_entry"


class QueueError(PortError):
    code = "queue"


class LeaseLostError(QueueError):
    code = "queue.lease_lost"


class LockError(PortError):
    code = "lock"


class LockLostError(LockError):
    code = "lock.lost"


class LockTimeoutError(LockError):
    code = "lock.timeout"


class DocumentError(PortError):
    code = "document"


class DocumentConflictError(DocumentError):
    code = "document.conflict"


class UnindexedQueryError(DocumentError):
    code = "document.unindexed_query"


class BlobError(PortError):
    code = "blob"


class BlobNotFoundError(BlobError):
    code = "blob.not_found"


class BlobConflictError(BlobError):
    code = "blob.conflict"


class IdempotencyError(PortError):
    code = "idempotency"


class IdempotencyTakenError(IdempotencyError):
    code = "idempotency.taken"


class SecretError(PortError):
    """Something about one secret; ``context`` has its name, never its value."""

    code = "secret"


class SecretNotFoundError(SecretError):
    code = "secret.not_found"


class SecretDisabledError(SecretError):
    code = "secret.disabled"


class SecretExpiredError(SecretError):
    code = "secret.expired"


class SecretNotYetValidError(SecretError):
    code = "secret.not_yet_valid"


class SecretDeletedError(SecretError):
    code = "secret.deleted"


class SecretConflictError(SecretError):
    code = "secret.conflict"


class SealError(PortError):
    """Sealed bytes cannot be opened: they were changed, belong to another place, or another key has sealed them."""

    code = "seal"


class SealKeyError(SealError):
    """The keyring lacks the key that sealed the bytes; ``key`` in the context is that key's id."""

    code = "seal.key"


class CoordinationError(PortError):
    code = "coordination"


class NotAMemberError(CoordinationError):
    code = "coordination.not_a_member"


class ShardCountError(CoordinationError):
    code = "coordination.shard_count"


class TLSNotaryError(PortError):
    """A presentation was refused. Each subclass names one check."""

    code = "tlsnotary"


class PresentationFormatError(TLSNotaryError):
    code = "tlsnotary.format"


class PresentationInvalidError(TLSNotaryError):
    code = "tlsnotary.invalid"


class NotaryNotTrustedError(TLSNotaryError):
    code = "tlsnotary.notary"


class PresentationExpiredError(TLSNotaryError):
    code = "tlsnotary.expired"


class PresentationFromFutureError(TLSNotaryError):
    code = "tlsnotary.future"


class IdentityMissingError(TLSNotaryError):
    code = "tlsnotary.no_identity"


class TranscriptMissingError(TLSNotaryError):
    code = "tlsnotary.no_transcript"


class ServerNameMismatchError(TLSNotaryError):
    code = "tlsnotary.server_name"


class HostMismatchError(TLSNotaryError):
    code = "tlsnotary.host"


class UnauthenticatedDataError(TLSNotaryError):
    code = "tlsnotary.unauthenticated"


class FieldNotAuthenticatedError(TLSNotaryError):
    code = "tlsnotary.field"


class VerificationLimitError(TLSNotaryError):
    code = "tlsnotary.limit"


class ConfigurationError(LoomError):
    """A setting, URL, file or declaration is wrong. Raised before any I/O is done for the app."""

    code = "configuration"


class UnknownSchemeError(ConfigurationError):
    code = "configuration.unknown_scheme"


class PluginError(ConfigurationError):
    code = "configuration.plugin"


class SecretReferenceError(ConfigurationError):
    """A reference in the configuration cannot be resolved; ``path`` in the context is the way that led there."""

    code = "configuration.secret_reference"


class ProductionGuardError(ConfigurationError):
    """The configuration may not run in production. ``findings`` holds every offender, not only the first."""

    code = "configuration.production_guard"

    def __init__(self, message: str = "", *, findings: Any = (), **context: Any) -> None:
        super().__init__(message, **context)
        self.findings = tuple(findings)


class DefinitionError(ConfigurationError):
    code = "configuration.definition"


class CallError(LoomError):
    code = "call"


class UnknownActorError(CallError):
    code = "call.unknown_actor"


class UnknownMethodError(CallError):
    code = "call.unknown_method"


class UnknownWorkflowError(CallError):
    code = "call.unknown_workflow"


class InvalidArgumentsError(CallError):
    code = "call.invalid_arguments"


class InvalidResultError(CallError):
    code = "call.invalid_result"


class IdempotencyConflictError(CallError):
    code = "call.idempotency_conflict"


class OutcomeUnknownError(CallError):
    """The call may or may not have taken effect. Retry it under the same ``request_id``: it runs at most once."""

    code = "call.outcome_unknown"

    def __init__(self, message: str = "", *, request_id: str = "", **context: Any) -> None:
        super().__init__(message, request_id=request_id, **context)
        self.request_id = request_id


class MessageExpiredError(CallError):
    code = "call.message_expired"


class OverloadedError(CallError):
    code = "call.overloaded"


class TurnDeadlineError(CallError):
    code = "call.turn_deadline"


class CallCycleError(CallError):
    code = "call.cycle"


class TurnClosedError(CallError):
    code = "call.turn_closed"


class ReadOnlyViolationError(CallError):
    code = "call.read_only_violation"


class LeftoverTasksError(CallError):
    code = "call.leftover_tasks"


class StateDecodeError(CallError):
    code = "call.state_decode"


class StateVersionError(CallError):
    code = "call.state_version"


class NonDeterminismError(CallError):
    code = "call.non_determinism"


class StepFailedError(CallError):
    code = "call.step_failed"


class WorkflowFailedError(CallError):
    code = "call.workflow_failed"


class WorkflowCancelledError(CallError):
    code = "call.workflow_cancelled"


class RunNotFoundError(CallError):
    code = "call.run_not_found"


class SerializationError(CallError):
    code = "call.serialization"


class NotRunningError(CallError):
    code = "call.not_running"


class RemoteError(CallError):
    """An exception raised elsewhere whose own type cannot be imported here; ``type_name`` is that type's name."""

    code = "call.remote"

    def __init__(self, message: str = "", *, type_name: str = "", **context: Any) -> None:
        super().__init__(message, type_name=type_name, **context)
        self.type_name = type_name


class EphemeralAdapterWarning(UserWarning):
    """An adapter that forgets is used where something durable is expected."""
