"""The composition root: builds the parts, starts and stops them in order.

The one rule: nothing else builds a part. Start: lock, database, barrier, recovery, writer, owners, socket,
READY. Stop: accept nobody, commit what was read, answer, sync, hang up, close.
"""

from __future__ import annotations

import gc
import logging
import os
import resource
import signal
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio.abc import TaskGroup, TaskStatus

from sessiond import processes
from sessiond.adopter import Adopter
from sessiond.clock import Clock
from sessiond.collector import Collector
from sessiond.commits import Commits
from sessiond.config import Config
from sessiond.custody import Custody
from sessiond.distrust import READ_ONLY_SECONDS, Distrust, DistrustedStore
from sessiond.errors import EXIT_STORAGE, DataGone, StartupRefused, StorageFailed
from sessiond.failures import Failures, speaks_of_the_disk
from sessiond.handlers import Handlers
from sessiond.metadata import Metadata
from sessiond.owners import Owners
from sessiond.presence import Presence
from sessiond.publication import (
    InheritedSocket,
    PublishedSocket,
    private_directory,
    require_no_links,
    take_lock,
)
from sessiond.purger import Purger
from sessiond.reader import Reader
from sessiond.search.index import Index
from sessiond.search.indexer import Indexer
from sessiond.search.searchers import Searchers
from sessiond.search.standing import StandingIndex
from sessiond.searching import Searching
from sessiond.server import Server
from sessiond.settler import Settler
from sessiond.storage.catalog import purged_ulids
from sessiond.storage.commit.operations import Owner
from sessiond.storage.database import DiskFull, failing, lacks_room, rows
from sessiond.storage.directory import DATABASE_NAME, INDEX_NAME, DataDirectory
from sessiond.storage.disk import Disk
from sessiond.storage.files import SessionFiles
from sessiond.storage.hold import Hold
from sessiond.storage.store import Store
from sessiond.syncer import Syncer
from sessiond.systemd import Notifier, inherited_socket, watchdog_seconds
from sessiond.verifying import Verifying
from sessiond.watchdog import Watchdog
from sessiond.writer import Writer
from sessiond_client import paths
from sessiond_client.wire.messages import EndReason

STOP_SECONDS_MAX = 5.0
COLLECT_EVERY_OBJECTS = 20_000
DESCRIPTORS_MIN = 64
"""With fewer the parts cannot even be built; uvloop would end the process without a word."""

logger = logging.getLogger("sessiond.daemon")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a running daemon consists of. One that only reads has nothing that writes or watches the data."""

    directory: DataDirectory | None
    custody: Custody | None
    syncer: Syncer | None
    collector: Collector | None
    indexer: Indexer | StandingIndex
    distrust: Distrust | None
    writer: Writer
    reader: Reader
    settler: Settler
    purger: Purger
    adopter: Adopter
    owners: Owners
    server: Server
    handlers: Handlers
    verifying: Verifying


def build(config: Config, directory: DataDirectory, hold: Hold, clock: Clock) -> Parts:
    """Build every part; nothing runs yet."""
    store = Store(
        directory.database, directory.files, directory.state_file, clock, directory.recovery.lagging
    )
    store.on_committed = hold.require_linked
    commits = Commits()
    writer = Writer(store, commits, clock)
    syncer = Syncer(writer, store, directory.recovery, directory.files)
    syncer.on_trouble = hold.require_in_place
    index_path = directory.path / INDEX_NAME
    searchers = Searchers(directory.database.path, index_path)
    indexer = Indexer(Index(index_path, directory.database.path, clock), searchers, commits, writer)
    parts = _assemble(config, clock, commits, writer, indexer, searchers, directory, Custody(hold), syncer)
    syncer.on_sealed = parts.settler.look
    parts.purger.on_removal = syncer.forget
    return parts


def build_distrusting(config: Config, clock: Clock, distrust: Distrust) -> Parts:
    """Build what can be served without writing; nothing runs yet."""
    commits = Commits()
    writer = Writer(DistrustedStore(distrust), commits, clock)
    searchers = Searchers(config.data_dir / DATABASE_NAME, config.data_dir / INDEX_NAME, is_at_rest=True)
    return _assemble(config, clock, commits, writer, StandingIndex(searchers), searchers, distrust=distrust)


def _assemble(
    config: Config,
    clock: Clock,
    commits: Commits,
    writer: Writer,
    indexer: Indexer | StandingIndex,
    searchers: Searchers,
    directory: DataDirectory | None = None,
    custody: Custody | None = None,
    syncer: Syncer | None = None,
    distrust: Distrust | None = None,
) -> Parts:
    """What answers, around a writer and an index."""
    files = SessionFiles(config.data_dir, Disk()) if directory is None else directory.files
    with failing("reading what is to be purged"):
        purged = [] if directory is None else purged_ulids(directory.database.connection)
    reader = Reader(config.data_dir / DATABASE_NAME, is_at_rest=directory is None)
    server = Server(lambda: writer.is_full)
    writer.on_room = server.look_again
    owners = Owners(writer, clock, server.connections_closed)
    settler = Settler(writer, reader, files, _nothing if syncer is None else syncer.hurry)
    purger = Purger(writer, files, indexer.forget, purged)
    adopter = Adopter(writer, reader, purger, files)
    verifying = Verifying(config.data_dir, files, clock, is_at_rest=directory is None)
    handlers = Handlers(
        config=config,
        clock=clock,
        writer=writer,
        reader=reader,
        commits=commits,
        owners=owners,
        server=server,
        adopter=adopter,
        metadata=Metadata(
            clock=clock, writer=writer, reader=reader, owners=owners, settler=settler, purger=purger
        ),
        searching=Searching(indexer, searchers, clock),
        verifying=verifying,
        settler=settler,
        recovery={} if directory is None else directory.recovery.counters,
        distrust=distrust,
    )
    collector = None
    if directory is not None:
        counters = directory.recovery.counters
        collector = Collector(_spools(config), handlers, reader, files, clock, counters)
        handlers.on_closed = collector.look
        handlers.take_over = collector.take_over
        owners.spool_settled = collector.settled
    return Parts(
        directory=directory, custody=custody, syncer=syncer, indexer=indexer, distrust=distrust,
        writer=writer, reader=reader, settler=settler, purger=purger, adopter=adopter, owners=owners,
        server=server, handlers=handlers, verifying=verifying, collector=collector,
    )  # fmt: skip


def _spools(config: Config) -> list[Path]:
    """Where clients leave what they want to tell us: by our socket's place, and by that of our data."""
    spools = [paths.spool_dir(config.socket_path, config.environ), paths.spool_beside(config.socket_path)]
    if config.data_dir == paths.data_dir(config.environ):
        # Also of clients who look for our socket elsewhere, for want of XDG_RUNTIME_DIR.
        spools.append(paths.state_dir(config.environ) / paths.SPOOL_NAME)
    return spools


def _nothing() -> None:
    """Nobody is to be hurried."""


def serve(config: Config) -> int:
    """Run a daemon until it is told to stop, or would try the disk again; returns its exit code.

    Raises StartupRefused or StorageFailed.
    """
    os.umask(0o077)
    _limit_resources()
    clock = Clock()
    failures = Failures(paths.runtime_dir(config.environ), config.data_dir, clock)
    try:
        return _serve(config, clock, failures)
    except DataGone:
        raise  # not by a fault of the disk
    except StorageFailed as failure:
        if speaks_of_the_disk(failure.cause) and not lacks_room(config.data_dir, failure.cause):
            failures.note(str(failure))
        raise
    except StartupRefused as refusal:
        if refusal.exit_code == EXIT_STORAGE and speaks_of_the_disk(refusal.__cause__):
            failures.note(refusal.what)
        raise


def _serve(config: Config, clock: Clock, failures: Failures) -> int:
    notifier = Notifier(config.environ)
    with ExitStack() as stack:
        place = _place(config)
        stack.callback(place.withdraw)
        check_data_dir(config)
        failure = failures.too_many()
        distrust = None if failure is None else Distrust.of(failure, failures.path, clock)
        lock = config.data_dir / "lock"
        if distrust is None or os.path.lexists(lock):  # who only reads makes none
            purpose = f"the data in {config.data_dir}"
            stack.callback(os.close, take_lock(lock, purpose, place.path, read_only=distrust is not None))
        opened = distrust or _opened(config, clock)
        if isinstance(opened, Distrust):
            parts = build_distrusting(config, clock, opened)
        else:
            stack.callback(opened.close)
            hold = Hold(config.data_dir, opened.files)
            stack.callback(hold.close)
            parts = build(config, opened, hold, clock)
        reading = (parts.reader, parts.indexer, parts.adopter, parts.verifying)
        for part in (parts.syncer, parts.writer, *reading, parts.collector):
            if part is not None:
                stack.callback(part.close)
        try:
            options = {"use_uvloop": _has_uvloop()}
            return anyio.run(_run, parts, place, notifier, config, backend_options=options)
        except StorageFailed:
            # Closing in order would write again to a disk that has just failed.
            stack.pop_all()
            raise


def _opened(config: Config, clock: Clock) -> DataDirectory | Distrust:
    """The data; on a full disk, where they cannot be opened for writing, why they are only read."""
    try:
        return DataDirectory.open(config.data_dir, clock)
    except DiskFull as full:
        return Distrust.of_full_disk(full, clock)


def _place(config: Config) -> PublishedSocket | InheritedSocket:
    """Where we listen: under a name of our own, or at the socket the service manager bound."""
    inherited = inherited_socket(config.environ)
    return PublishedSocket(config.socket_path) if inherited is None else InheritedSocket(inherited)


def check_data_dir(config: Config) -> None:
    """Raises StartupRefused unless the data directory is ours alone, and on a disk that keeps promises."""
    path = config.data_dir
    kind = paths.file_system(path)
    if paths.is_network(kind) and not config.settings.storage.any_file_system:
        raise StartupRefused(
            f"{path} is on {kind}, a network file system, where what was acknowledged can be lost",
            "keep the data on a local disk (XDG_DATA_HOME or --data-dir), or take the risk:"
            " sessionctl config set storage.any_file_system true",
        )
    private_directory(path, "the data")
    require_no_links(path)


def _limit_resources() -> None:
    """More descriptors than the usual soft limit, for connections and append handles; no core dumps.

    Raises StartupRefused if there may be too few of them.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < DESCRIPTORS_MIN:  # below 0: no limit
        raise StartupRefused(
            f"this process may open only {hard} files", f"raise the limit: ulimit -n {DESCRIPTORS_MIN}"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # They would hold recorded text, and are kept where we do not look after them.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _has_uvloop() -> bool:
    try:
        import uvloop  # noqa: F401, PLC0415 - only to see whether the platform has it
    except ImportError:
        return False
    return True


async def _run(
    parts: Parts, place: PublishedSocket | InheritedSocket, notifier: Notifier, config: Config
) -> int:
    failures: list[StorageFailed] = []
    try:
        async with anyio.create_task_group() as tasks:
            stop = await tasks.start(_watch_signals)
            parts.owners.start(tasks)
            parts.handlers.start(tasks)
            tasks.start_soon(parts.writer.run)
            if parts.directory is not None:
                await _start_writing(parts, parts.directory, tasks)
            parts.server.start(place.socket, parts.handlers, tasks)
            _watch_ourselves(parts, place, notifier, config, tasks)
            _spare_the_collector()
            _announce(parts, notifier)
            with anyio.move_on_after(None if parts.distrust is None else READ_ONLY_SECONDS) as patience:
                await stop.wait()
            notifier.notify(STOPPING=1)
            await _stop(parts)
            tasks.cancel_scope.cancel()
    except* StorageFailed as group:
        failures = _failures(group)
    finally:
        parts.owners.close()
    if failures:  # Early releases of Python 3.11 put what is raised in an `except*` into a group again.
        raise failures[0]
    return EXIT_STORAGE if patience.cancelled_caught else 0


def _failures(group: BaseExceptionGroup[StorageFailed]) -> list[StorageFailed]:
    return [
        failure
        for error in group.exceptions
        for failure in (_failures(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]


async def _start_writing(parts: Parts, directory: DataDirectory, tasks: TaskGroup) -> None:
    """Start what works behind the commits, and go on with the sessions there are."""
    assert parts.syncer is not None
    assert parts.custody is not None
    assert isinstance(parts.indexer, Indexer)
    for part in (parts.custody, parts.syncer, parts.indexer, parts.settler, parts.purger, parts.adopter):
        tasks.start_soon(part.run)
    assert parts.collector is not None
    await _check_owners(parts.owners, parts.collector, directory, tasks)
    tasks.start_soon(parts.collector.run)


def _watch_ourselves(
    parts: Parts,
    place: PublishedSocket | InheritedSocket,
    notifier: Notifier,
    config: Config,
    tasks: TaskGroup,
) -> None:
    """See that clients find us, and let the service manager know that they are served."""
    if isinstance(place, PublishedSocket):
        tasks.start_soon(Presence(place, parts.server).run)
    if (period := watchdog_seconds(config.environ)) is not None:
        tasks.start_soon(Watchdog(notifier, period, place.path, parts.writer).run)


def _announce(parts: Parts, notifier: Notifier) -> None:
    distrust = parts.distrust
    recovery = {} if parts.directory is None else dict(parts.directory.recovery.counters)
    if distrust is not None:
        logger.error("only reading", extra={"reason": distrust.reason, "since": distrust.since})
    status = "recording" if distrust is None else f"only reading: {distrust.reason}"
    notifier.notify(READY=1, STATUS=status)
    logger.info("ready", extra={"pid": os.getpid(), "recovery": recovery})


def _spare_the_collector() -> None:
    """Events make no cycles: look for garbage seldom, and never again at what start-up made."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_EVERY_OBJECTS)


async def _check_owners(
    owners: Owners, collector: Collector, directory: DataDirectory, tasks: TaskGroup
) -> None:
    """Go on with the sessions whose owners live; interrupt the others, once what they left is stored."""
    sql = (
        "SELECT ulid, owner_pid, owner_start, owner_boot FROM session"
        " WHERE status = 'recording' AND owner_pid IS NOT NULL AND shelf = 'kept'"
    )
    with failing("reading whose sessions record"):
        recording = rows(directory.database.connection, sql)
    boot = processes.boot_id()
    gone: dict[str, EndReason] = {}
    for ulid, pid, start, owner_boot in recording:
        owner = Owner(pid, start, owner_boot)
        if processes.lives(owner):
            owners.watch(ulid, owner)
        else:
            restarted = owner_boot is not None and owner_boot != boot
            gone[ulid] = EndReason.HOST_RESTARTED if restarted else EndReason.DAEMON_LOST
    if gone and collector.waits():
        tasks.start_soon(_interrupt_later, owners, collector, gone)
    else:
        await owners.interrupt(gone, recovered=True)


async def _interrupt_later(owners: Owners, collector: Collector, gone: dict[str, EndReason]) -> None:
    await collector.settled()
    await owners.interrupt(gone, recovered=True)


async def _watch_signals(*, task_status: TaskStatus[anyio.Event]) -> None:
    """Tell of the first SIGTERM or SIGINT; the next one ends the process at once."""
    stop = anyio.Event()
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started(stop)
        async for number in signals:
            if stop.is_set():
                os._exit(128 + number)
            stop.set()


async def _stop(parts: Parts) -> None:
    """Commit and answer what was read, sync the files, hang up."""
    logger.info("stopping")
    with anyio.move_on_after(STOP_SECONDS_MAX) as limit:
        parts.server.stop_reading()
        if parts.collector is not None:
            parts.collector.stop()
        await parts.writer.drain()
        parts.server.close()
        if parts.syncer is not None:
            await parts.syncer.sync()
    if limit.cancelled_caught:
        logger.warning("stopped before everything was synced; the next start makes up for it")
