"""How restic is run: its environment holds what opens the vault, its arguments never do."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from tasks.backups.store.programs import ProgramMissingError, run
from tasks.backups.store.pulse import StalledError
from tasks.backups.store.restic.failures import failure, why_give_up
from tasks.backups.store.restic.saying import version_of
from tasks.backups.vaults import EngineMissingError, VaultDamagedError, VaultLockedError, VaultUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tasks.backups.staging import Limits
    from tasks.backups.store.programs import Finished
    from tasks.backups.store.restic.saying import Version
    from tasks.backups.vaults import VaultPlace
    from tasks.errors import CrewError

_INSTALL: Final = "sudo apt-get install restic"
_REMOTE: Final = ("s3:", "rest:", "sftp:", "b2:", "azure:", "gs:", "rclone:", "swift:")
_UNLOCK_PATIENCE_S: Final = 20.0
_NO_LOCK_MADE: Final = "unable to create lock"
PATIENCE_S: Final = 600.0
"""A server that says nothing for longer is away. Between two of its own attempts the engine waits a minute at most."""


def _no_tick() -> None:
    """Go on."""


@dataclass(frozen=True, kw_only=True)
class Restic:
    """The program, and the vault that it is to open."""

    place: VaultPlace
    program: str
    cache: Path
    limits: Limits
    patience_s: float = PATIENCE_S
    """How long the engine may wait for the place of the vault without a byte."""
    tries_again: bool = True
    """Whether the engine may try again what has failed; see `why_give_up`."""

    @cached_property
    def version(self) -> Version:
        """Which release it is.

        Raises:
            EngineMissingError: it is not installed.
            VaultError: it was killed before it said so.
            PermanentError: it is no restic, or too old.
        """
        finished = self._run(["version"], env={})
        if finished.code < 0:
            raise self.failure(finished, "the engine did not say its version")
        return version_of(finished.output)

    @property
    def is_local(self) -> bool:
        """Whether the vault is a directory of this machine."""
        return not self.place.location.startswith(_REMOTE)

    def ask(
        self,
        what: str,
        arguments: Sequence[str],
        *,
        tick: Callable[[], None] = _no_tick,
        on_line: Callable[[str], None] | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Finished:
        """Run it to a good end; `what` is what an error begins with.

        Raises:
            VaultError: it did not end with 0.
            EngineMissingError: it is not installed.
        """
        finished = self.try_to(arguments, tick=tick, on_line=on_line, cwd=cwd, env=env)
        if finished.code:
            raise self.failure(finished, what)
        return finished

    def ask_for_lines(self, what: str, arguments: Sequence[str]) -> list[str]:
        """Give the whole of what it says, however long; see `ask`. It looks only, and needs no lock for that."""
        lines: list[str] = []
        finished = self.ask(what, ["--no-lock", *arguments], on_line=lines.append)
        # It tells what it could not read, leaves it out and ends with 0.
        if "could not load" in finished.errors or "invalid data returned" in finished.errors:
            msg = f"{what}: {finished.last_words}"
            raise VaultDamagedError(msg)
        return lines

    def ask_to_read(self, what: str, arguments: Sequence[str], *, tick: Callable[[], None]) -> Finished:
        """Read what is stored; see `ask`.

        The lock keeps a pruner away. Where none can be had, because the pruner is dead or the disk takes no writes,
        it goes on without: what a living pruner takes away meanwhile is then no damage.
        """
        finished = self.try_to(arguments, tick=tick)
        if not finished.code:
            return finished
        error = self.failure(finished, what)
        if not isinstance(error, VaultLockedError) and _NO_LOCK_MADE not in finished.errors:
            raise error
        try:
            return self.ask(what, ["--no-lock", *arguments], tick=tick)
        except VaultDamagedError:
            raise error from None

    def try_to(
        self,
        arguments: Sequence[str],
        *,
        tick: Callable[[], None] = _no_tick,
        on_line: Callable[[str], None] | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Finished:
        """Run it to any end. What is called off leaves no lock, whenever that was."""
        own = {**(env or {}), **self._environment()}
        try:
            return self._run([*self._rates(), *arguments], env=own, tick=tick, on_line=on_line, cwd=cwd)
        except EngineMissingError:
            raise
        except BaseException:
            self._take_away_lock(own)
            raise

    def failure(self, finished: Finished, what: str) -> CrewError:
        """Make the error of a run that did not end well."""
        return failure(finished, f"{what} (vault {self.place.name})", is_local=self.is_local)

    def at(self, place: VaultPlace) -> Restic:
        """Give the same program for another vault, with a cache of its own."""
        return replace(self, place=place, cache=self.cache.with_name(place.name))

    def _take_away_lock(self, env: Mapping[str, str]) -> None:
        """Remove what an interrupted run has left: for a fifth of a second it has a lock that it does not know of yet.

        Plain `unlock` takes away those of dead processes alone. It may fail: whoever prepares the vault does it again.
        """
        give_up_at_s = time.monotonic() + _UNLOCK_PATIENCE_S

        def tick() -> None:
            if time.monotonic() > give_up_at_s:
                raise TimeoutError

        with suppress(TimeoutError):
            self._run(["unlock"], env=env, tick=tick)

    def _run(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        tick: Callable[[], None] = _no_tick,
        on_line: Callable[[str], None] | None = None,
        cwd: Path | None = None,
    ) -> Finished:
        self.cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        argv = [self.program, *arguments]
        try:
            return run(
                argv,
                env=env,
                cwd=cwd or self.cache,
                limits=replace(self.limits, patience_s=self.patience_s),
                tick=tick,
                on_line=on_line,
                on_errors=self._give_up,
            )
        except StalledError as error:
            msg = (
                f"the place of the vault {self.place.name} has gone silent, and the engine was ended ({error}): see "
                "whether its server answers; the run is tried again"
            )
            raise VaultUnreachableError(msg) from error
        except ProgramMissingError as error:
            msg = f"the engine of the vaults is missing ({error}): {_INSTALL}"
            raise EngineMissingError(msg) from error

    def _give_up(self, errors: str) -> None:
        if found := why_give_up(errors, tries_again=self.tries_again):
            kind, said = found
            msg = f"{said} (vault {self.place.name})"
            raise kind(msg)

    def _environment(self) -> dict[str, str]:
        return {
            **self.place.environment,
            "RESTIC_REPOSITORY": self.place.location,
            "RESTIC_PASSWORD_FILE": str(self.place.password_file),
            "RESTIC_CACHE_DIR": str(self.cache),
            "RESTIC_PROGRESS_FPS": "2",
        }

    def _rates(self) -> list[str]:
        given = {"--limit-upload": self.limits.upload_kib_s, "--limit-download": self.limits.download_kib_s}
        return [part for name, rate in given.items() if rate for part in (name, str(rate))]
