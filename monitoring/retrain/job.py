"""Target: a command on this machine, such as `emotion run`: retrain what changed, promote through the gate.

One runs at a time. It holds a lock on a file for as long as it lives, also where the webhook is killed meanwhile: its
successor finds it there and waits for its end. A webhook that is ended properly ends its command as well; `dvc repro`
goes on where it was interrupted when the alert comes again.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from monitoring.retrain.errors import TargetError
from monitoring.retrain.order import Ended, Order
from monitoring.retrain.settings import Settings

PATIENCE = 20.0
"""Seconds that an interrupted command is given to end."""
_SECRETS = ("RETRAIN_TOKEN", "RETRAIN_GITHUB_TOKEN")


class Command:
    """A command that retrains."""

    running = True
    name = "command"

    def __init__(self, settings: Settings) -> None:
        """Make the directory `logs` for what each run prints.

        Raises:
            OSError: it cannot be made.
        """
        self._words, self._directory, self._folder = settings.words, settings.directory, settings.folder
        self._repair, self._lock_file = settings.repair_seconds, self._folder / "command.lock"
        self._closing = False
        self._watchers: list[threading.Thread] = []
        (self._folder / "logs").mkdir(parents=True, exist_ok=True)

    def attach(self, running: Sequence[str], ended: Ended) -> None:
        self._ended = ended
        for incident in running:
            if not self.arrived(incident):
                gone = "ended together with the webhook; it starts again when the alert is repeated"
                ended(incident, "interrupted", gone)

    def describe(self) -> str:
        return f"run `{' '.join(self._words)}` in {self._directory.resolve()}"

    def send(self, order: Order) -> None:
        """Start the command.

        Raises:
            TargetError: another one runs, or it cannot be started.
        """
        log = self._folder / "logs" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{order.incident}.log"
        with self._lock_file.open("a+") as lock, log.open("wb") as output:
            if not _locked(lock):
                raise TargetError("busy", f"a command runs already, see {self._folder / 'logs'}", self._repair)
            lock.truncate(0)  # nobody takes this one for the last one, whatever happens now
            process = self._start(order, lock, output)
            lock.write(f"{order.incident} {process.pid}")
        self._watch(self._wait, process, order.incident, log)

    def arrived(self, incident: str, _since: float = 0, /) -> bool:
        """Whether the command of an incident runs now; one that has ended by itself does no harm if it runs again."""
        holder = self._holder()
        if holder is None or holder[0] != incident:
            return False
        self._watch(self._wait_for_lock, incident)
        return True

    def close(self) -> None:
        """End the command, and what it has started."""
        self._closing = True
        for number, patience in ((signal.SIGTERM, PATIENCE), (signal.SIGKILL, PATIENCE)):
            holder = self._holder()
            if holder is None:
                break
            with suppress(ProcessLookupError):
                os.killpg(holder[1], number)
            for watcher in self._watchers:
                watcher.join(patience)

    def _start(self, order: Order, lock: IO[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if name not in _SECRETS}
        try:
            return subprocess.Popen(
                self._words,
                cwd=self._directory,
                env=environment | {"RETRAIN_INCIDENT": order.incident},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=[lock.fileno()],
            )
        except OSError as error:
            what = f"`{self._words[0]}` in {self._directory}: {error.strerror}; see RETRAIN_COMMAND"
            raise TargetError("command", f"{what} and RETRAIN_DIRECTORY", self._repair) from None

    def _watch(self, wait: object, *arguments: object) -> None:
        watcher = threading.Thread(target=wait, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._watchers = [*(thread for thread in self._watchers if thread.is_alive()), watcher]
        watcher.start()

    def _wait(self, process: subprocess.Popen[bytes], incident: str, log: Path) -> None:
        status = process.wait()
        if self._closing and status:
            self._ended(incident, "interrupted", "the webhook was ended; it starts again when the alert is repeated")
        elif status:
            self._ended(incident, "failed", f"status {status}; {log} says why. Asked for again after the cooldown")
        else:
            self._ended(incident, "succeeded", f"see {log}")

    def _wait_for_lock(self, incident: str) -> None:
        with self._lock_file.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
        if self._closing:
            self._ended(incident, "interrupted", "the webhook was ended; it starts again when the alert is repeated")
        else:
            self._ended(incident, "unknown", f"it has ended; how, says its log in {self._folder / 'logs'}")

    def _holder(self) -> tuple[str, int] | None:
        """Incident and process of the command that runs, if one does."""
        with self._lock_file.open("a+") as lock:
            if _locked(lock):
                return None
            lock.seek(0)
            incident, _, process = lock.read().partition(" ")
        return (incident, int(process)) if process else None


def _locked(lock: IO[str]) -> bool:
    """Lock a file if nobody has; it stays locked until every copy of it is closed."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
