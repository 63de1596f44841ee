"""The verbs of a vault, on restic."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any, Final

from tasks.backups.store.keys import UNNAMED
from tasks.backups.store.restic.copying import copy
from tasks.backups.store.restic.failures import VaultRefusedError
from tasks.backups.store.restic.opening import listed, open_or_make, opened
from tasks.backups.store.restic.program import PATIENCE_S, Restic
from tasks.backups.store.restic.saying import BackupTeller, json_lines, tag_list
from tasks.backups.store.sandboxes import sandbox
from tasks.backups.vaults import Stored, VaultDamagedError, VaultSize
from tasks.errors import CrewError, PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from tasks.backups.staging import Limits, Progress
    from tasks.backups.vaults import Snapshot, Tags, VaultPlace

_MOSTLY: Final = 0.9


class ResticVault:
    """A vault kept by restic. See `tasks.backups.vaults.Vault` for what each method promises."""

    def __init__(
        self,
        place: VaultPlace,
        *,
        program: str,
        cache: Path,
        limits: Limits,
        patience_s: float = PATIENCE_S,
        tries_again: bool = True,
    ) -> None:
        """Know how it is opened; `cache` is a private directory of its own, and nothing is asked of it yet.

        `patience_s` is how long its place may say nothing before the engine is ended; without `tries_again` it is ended
        as soon as something cannot be read, as is right for a copy that nobody else touches.
        """
        self.place = place
        self._restic = Restic(
            place=place,
            program=program,
            cache=cache,
            limits=limits,
            patience_s=patience_s,
            tries_again=tries_again,
        )

    def engine(self) -> str:
        """Name program and version."""
        return f"restic {'.'.join(map(str, self._restic.version))}"

    def prepare(self) -> None:
        """Make the vault if its place is empty, check the password if not, and take away locks of dead processes.

        Raises:
            VaultMissingError: there was a vault here once, or there are other files: nothing is made over that.
        """
        open_or_make(self._restic)

    def put(self, directory: Path, *, tags: Tags, sizes: Mapping[str, int], progress: Progress) -> Stored:
        """Store the files of a directory, and find each of `sizes` in what was stored."""
        _check_sources(directory, sizes)
        teller = BackupTeller(lambda done, total: progress("store", done, total), total=sum(sizes.values()))
        arguments = ["backup", ".", "--json", "--force", "--compression", _compression(sizes)]
        # Never the machine's name: lineage is ours, and a vault moves with its crew.
        arguments += ["--host", self.place.crew or UNNAMED]
        for tag in tag_list(tags):
            arguments += ["--tag", tag]
        what = "the vault did not take the point"
        bytes_before = self._bytes_on_disk()
        teller.tick()  # a small stage is stored before the engine says a word
        finished = self._restic.try_to(arguments, tick=teller.tick, on_line=teller, cwd=directory)
        try:
            if finished.code:
                raise self._restic.failure(finished, what)
            snapshot = self._stored(teller.summary or {}, tags, sizes)
        except CrewError:
            self._withdraw(teller.summary)
            raise
        return Stored(snapshot=snapshot, added_bytes=self._added(teller.summary or {}, bytes_before))

    def list(self) -> Sequence[Snapshot]:
        """Name everything stored by a crew, oldest first."""
        return [one.snapshot for one in listed(self._restic)]

    def sizes(self, snapshot_id: str) -> Mapping[str, int]:
        """Give the bytes of each file of a snapshot by name."""
        return opened(self._restic, snapshot_id)[1]

    def read(self, snapshot_id: str, name: str) -> bytes:
        """Give a small file of a snapshot."""
        with sandbox(self._restic.cache, "read-") as private:
            to = private / "files"
            self.get(snapshot_id, [name], to, progress=_go_on)
            return (to / name).read_bytes()

    def get(self, snapshot_id: str, names: Collection[str], to: Path, *, progress: Progress) -> None:
        """Write files of a snapshot into a new directory."""
        to.mkdir(mode=0o700, parents=True)
        arguments = ["restore", snapshot_id, "--target", str(to)]
        for name in names:
            arguments += ["--include", f"/{name}"]
        what = f"snapshot {snapshot_id[:8]} cannot be fetched"
        try:
            self._restic.ask_to_read(what, arguments, tick=lambda: progress("fetch", _bytes_in(to)))
            _check_fetched(snapshot_id, names, to)
        except BaseException:
            shutil.rmtree(to, ignore_errors=True)  # a file of full length with a hole in it looks like a good one
            raise

    def check(self, *, read: tuple[int, int] | None = None, progress: Progress) -> None:
        """Check the structure, and read slice `i` of `n` of the stored data back."""
        slice_ = [] if read is None else [f"--read-data-subset={read[0]}/{read[1]}"] if read[1] > 1 else ["--read-data"]
        self._restic.ask("the check failed", ["check", *slice_], tick=lambda: progress("check", 0))

    def users_of(self, pieces: Collection[str], *, progress: Progress) -> Collection[str]:
        """Ask the engine of one snapshot after the other: of all together it names one for each chunk of data."""
        return {one.id for one in self.list() if pieces and self._uses(one, pieces, progress)}

    def forget(self, snapshot_ids: Collection[str], *, progress: Progress) -> None:
        """Delete snapshots and give their space back, also that of an earlier attempt that came to its half."""
        if not snapshot_ids:
            return
        refusal = (
            f"vault {self.place.name} refuses deletions, as an append-only one shall: its retention belongs to "
            "another machine, with keys that may delete"
        )
        if self.place.is_append_only:
            raise PermanentError(refusal)
        wanted = sorted({one.id for one in self.list()}.intersection(snapshot_ids))
        try:
            if wanted:
                self._restic.ask("points cannot be deleted", ["forget", *wanted], tick=lambda: progress("forget", 0))
            self._restic.ask("space cannot be given back", ["prune"], tick=lambda: progress("prune", 0))
        except VaultRefusedError as error:
            msg = f"{refusal} ({error})"
            raise PermanentError(msg) from error
        if still := {one.id for one in self.list()}.intersection(wanted):
            msg = f"the engine says that all went well, but {len(still)} points are still there"
            raise VaultDamagedError(msg)

    def copy_to(self, other: VaultPlace, snapshot_ids: Collection[str], *, progress: Progress) -> Mapping[str, str]:
        """Copy snapshots with their tags; give the ids that they have there."""
        return copy(self._restic, self._restic.at(other), snapshot_ids, progress)

    def size(self) -> VaultSize:
        """Measure it."""
        if (stored := self._bytes_on_disk()) is not None:
            return VaultSize(stored_bytes=stored, free_bytes=shutil.disk_usage(self.place.location).free)
        lines = self._restic.ask_for_lines("the vault cannot be measured", ["stats", "--json", "--mode", "raw-data"])
        return VaultSize(stored_bytes=json_lines(lines)[0]["total_size"], free_bytes=None)

    def _stored(self, summary: Mapping[str, Any], tags: Tags, sizes: Mapping[str, int]) -> Snapshot:
        """Find what was stored, and that it is what was given."""
        stored, found = opened(self._restic, str(summary.get("snapshot_id")))
        read = summary.get("total_bytes_processed", -1)
        if read < sum(sizes.values()) or found != dict(sizes) or stored is None or stored.snapshot.tags != tags:
            msg = "the engine says that all went well, but what it stored is not what it was given"
            raise VaultDamagedError(msg)
        return stored.snapshot

    def _uses(self, snapshot: Snapshot, packs: Collection[str], progress: Progress) -> bool:
        lines: list[str] = []
        arguments = ["--no-lock", "find", "--json", "--pack", "--snapshot", snapshot.id, *packs]
        finished = self._restic.try_to(arguments, tick=lambda: progress("locate", 0), on_line=lines.append)
        # It fails for a pack of which no index says what is in it, and then nothing can be found out.
        return finished.code == 0 and any(json_lines(lines))

    def _withdraw(self, summary: Mapping[str, Any] | None) -> None:
        """Take back what was stored in part: the next attempt would find it and think it whole."""
        if summary and summary.get("snapshot_id"):
            with suppress(CrewError):  # a keeper that refuses keeps it: its manifest does not fit it, and tells
                self._restic.ask("a part cannot be taken back", ["forget", summary["snapshot_id"]])

    def _bytes_on_disk(self) -> int | None:
        return _bytes_in(Path(self.place.location)) if self._restic.is_local else None

    def _added(self, summary: Mapping[str, Any], bytes_before: int | None) -> int:
        """Tell by how much the vault grew; before 0.17 restic says how much that was before it was compressed."""
        if bytes_before is not None and (now := self._bytes_on_disk()) is not None:
            return max(0, now - bytes_before)
        return int(summary.get("data_added_packed", summary["data_added"]))


def _check_sources(directory: Path, sizes: Mapping[str, int]) -> None:
    """See that everything is there, and nothing else: the engine skips what is not, and says that all went well."""
    if not sizes:
        msg = "there is nothing to store"
        raise PermanentError(msg)
    found = {
        path.relative_to(directory).as_posix(): path.lstat().st_size if S_ISREG(path.lstat().st_mode) else None
        for path in directory.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    if wrong := sorted(name for name in found.keys() | sizes.keys() if found.get(name) != sizes.get(name)):
        msg = f"the stage is not as it was written, and nothing was stored: {', '.join(wrong[:3])}"
        raise TransientError(msg)


def _check_fetched(snapshot_id: str, names: Collection[str], to: Path) -> None:
    """See that every name is there: the engine restores nothing under a name that it does not know, with success."""
    if missing := [name for name in names if not (to / name).is_file()]:
        msg = f"snapshot {snapshot_id[:8]} has no {', '.join(missing)}"
        raise VaultDamagedError(msg)


def _compression(sizes: Mapping[str, int]) -> str:
    """Choose for the whole run, as restic does: leave it alone where nearly all of it is compressed already.

    To try that again costs a seventh of the CPU of a `put` (250 MB of random bytes); text that was left as it is took
    3.4 times the place (20 MB of JSON lines). So both the cost and the loss stay small.
    """
    packed = sum(size for name, size in sizes.items() if name.endswith(".zst"))
    return "off" if packed >= _MOSTLY * sum(sizes.values()) else "auto"


def _go_on(phase: str, done: int, total: int | None = None) -> None:
    """Take note of nothing."""


def _bytes_in(directory: Path) -> int:
    total = 0
    for file in directory.rglob("*"):
        with suppress(FileNotFoundError):  # it was moved meanwhile
            total += file.lstat().st_size if file.is_file() else 0
    return total
