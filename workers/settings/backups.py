"""The settings of backups and of the vaults that they go to."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path  # noqa: TC003  pydantic reads the annotations at run time
from typing import Annotated, Final, Literal

from pydantic import Field, SecretStr, field_validator

from tasks.runtime import BackupOptions, ProfileOptions, RetentionOptions, VaultOptions
from workers.settings.section import Seconds, Section, Share, Unit

_KEEP: Final = RetentionOptions()
_DRILLS: Final = timedelta(days=730)
_VAULT_URL: Final = re.compile(r"(s3|rest):https?://[^/@\s]+/\S*")
_PROFILE_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_RATE: Final = "KiB a second"
_PLACE: Final = Unit("directory · `s3:https://host/bucket/path` · `rest:https://host/path`")

Part = Literal["database", "redis", "config", "model"]
Kept = Annotated[int, Field(ge=0, le=10_000), Unit("points")]
Rate = Annotated[int, Field(ge=0), Unit(_RATE)]


class ProfileSettings(Section):
    """What a profile takes, and how long it is kept."""

    parts: Annotated[tuple[Part, ...], Field(min_length=1)] = ("database", "redis", "config", "model")
    keep_daily: Kept = _KEEP.daily
    keep_weekly: Kept = _KEEP.weekly
    keep_monthly: Kept = _KEEP.monthly


class BackupSettings(Section):
    """Backups, and the vaults that they go to."""

    enabled: bool = True
    """Whether the crew takes backups: their worker, and their entries in the timetable."""
    hourly: bool = False
    """Whether an incremental backup is taken each hour as well."""
    directory: Path | None = None
    """Where backups are put together, on a disk with room for one and a half databases. Empty: `backups` in the data directory."""  # noqa: E501
    vault: Annotated[str, _PLACE] = ""
    """Where restore points are kept. Empty: `vault` in the data directory, which burns down with it."""
    vault_password_file: Path | None = None
    """A file of mode 600 with the password of the vault. Empty: `keys/vault` in the data directory, made at the first backup; `nightcrew backup kit` tells it."""  # noqa: E501
    second_vault: Annotated[str, _PLACE] = ""
    """Where every restore point is copied to, best elsewhere. Empty: nowhere."""
    second_vault_password_file: Path | None = None
    """The same for the second vault. Empty: `keys/second-vault` in the data directory."""
    second_vault_append_only: bool = False
    """Whether the keeper of the second vault refuses deletions; what it keeps is then thinned out there."""
    s3_access_key_id: Annotated[SecretStr | None, Unit("text (secret)")] = None
    """Key of the vaults on S3."""
    s3_secret_access_key: Annotated[SecretStr | None, Unit("text (secret)")] = None
    """The secret of that key."""
    s3_region: Annotated[str, Unit("name of a region")] = ""
    """Region of the vaults on S3. Empty: what the server says."""
    certificate_file: Path | None = None
    """Certificate authority of a vault's server, in PEM. Empty: those that the machine trusts."""
    keep_daily: Kept = _KEEP.daily
    """The newest point of each of so many days is kept."""
    keep_weekly: Kept = _KEEP.weekly
    """The same for weeks, which prefer full backups."""
    keep_monthly: Kept = _KEEP.monthly
    """The same for months."""
    second_keep_daily: Kept = _KEEP.daily
    """What the second vault keeps of days."""
    second_keep_weekly: Kept = _KEEP.weekly
    """What it keeps of weeks."""
    second_keep_monthly: Kept = _KEEP.monthly
    """What it keeps of months."""
    profiles: Annotated[dict[str, ProfileSettings], Unit("a table of profiles")] = Field(default_factory=dict)
    """Other profiles than `default`, by name: which parts they take (`parts`) and how much is kept of them (`keep_daily`, `keep_weekly`, `keep_monthly`)."""  # noqa: E501
    config_files: Annotated[tuple[Path, ...], Unit("list of paths")] = ()
    """Files that are taken beside `nightcrew.toml`."""
    model_file: Path | None = None
    """The model, which is taken with its manifest. Empty: `model.pkl` in the data directory, if there is one."""
    cache_url: SecretStr | None = None
    """The Redis of the cache, if it is another one than the broker."""
    engine: Annotated[str, Unit("program")] = "restic"
    """The engine of the vaults, by name or path: restic 0.14 or newer."""
    postgresql_tools: Path | None = None
    """Directory of `pg_dump` and its like. Empty: the PATH, then where Debian puts them."""
    nice: Annotated[int, Field(ge=0, le=19), Unit("(see nice(1))")] = 10
    """How far backups step back from the processor."""
    idle_io: bool = True
    """Whether disks serve everybody else first."""
    upload_kib_s: Rate = 0
    """The most that is sent to a vault; 0 is as fast as it goes."""
    download_kib_s: Rate = 0
    """The same for what is fetched from one."""
    most_links: Annotated[int, Field(ge=0, le=1000), Unit("points")] = 24
    """Incremental points in a row before the next one is full."""
    most_chain_share: Share = 0.5
    """What the deltas of a chain may take together, as a share of its full, before the next point is full."""
    most_changed_share: Share = 0.4
    """Share of the database's pages from which on a delta is not worth it."""
    target_rto_s: Seconds = 900.0
    """How long a restore may be expected to take before the next point is full."""
    shrink_share: Share = 0.5
    """A point smaller than this share of those before it is suspect: it is kept, and lets no older one go."""
    read_whole_below_bytes: Annotated[int, Field(ge=0), Unit("bytes")] = 256 * 1024 * 1024
    """Databases up to this size are read row by row for each point, larger ones for a full one."""
    drill_after_full: bool = True
    """Whether each full point is restored and compared as soon as it is stored. The weekly drill is there anyway."""
    keep_drills: Annotated[int, Field(ge=31, le=36_500), Unit("days")] = _DRILLS.days
    """How long it is known what a drill has found; the trend of restore times is drawn from it."""

    @field_validator("vault", "second_vault", mode="after")
    @classmethod
    def _check_place(cls, place: str) -> str:
        place = place.strip()
        if place and not place.startswith("/") and not _VAULT_URL.fullmatch(place):
            msg = "must be an absolute directory, s3:https://host/bucket/path or rest:https://host/path, without a user"
            raise ValueError(msg)
        return place

    @field_validator("profiles", mode="after")
    @classmethod
    def _check_names(cls, profiles: dict[str, ProfileSettings]) -> dict[str, ProfileSettings]:
        for name in profiles:
            if name == "default" or not _PROFILE_NAME.fullmatch(name):
                msg = f"a profile cannot be named {name!r}: kebab case, up to 32 characters, and not default"
                raise ValueError(msg)
        return profiles

    def options(self, data_dir: Path) -> BackupOptions:
        """Give what the jobs of the slice need to know."""
        settings_file = data_dir / "nightcrew.toml"
        return BackupOptions(
            directory=self.directory or data_dir / "backups",
            vault=VaultOptions(
                location=self.vault or str(data_dir / "vault"),
                password_file=self.vault_password_file or data_dir / "keys" / "vault",
                environment=self._environment(),
            ),
            second_vault=self._second_vault(data_dir),
            profiles=self._profiles(),
            cache_url=self.cache_url.get_secret_value() if self.cache_url else None,
            crew_file=data_dir / "keys" / "crew",
            config_files=(*((settings_file,) if settings_file.exists() else ()), *self.config_files),
            model_file=self._model_file(data_dir),
            engine=self.engine,
            postgresql_tools=self.postgresql_tools,
            nice=self.nice,
            idle_io=self.idle_io,
            upload_kib_s=self.upload_kib_s or None,
            download_kib_s=self.download_kib_s or None,
            most_links=self.most_links,
            most_chain_share=self.most_chain_share,
            most_changed_share=self.most_changed_share,
            target_rto=timedelta(seconds=self.target_rto_s),
            shrink_share=self.shrink_share,
            read_whole_below_bytes=self.read_whole_below_bytes,
            drill_after_full=self.drill_after_full,
            keep_drills=timedelta(days=self.keep_drills),
        )

    def _second_vault(self, data_dir: Path) -> VaultOptions | None:
        if not self.second_vault:
            return None
        return VaultOptions(
            location=self.second_vault,
            password_file=self.second_vault_password_file or data_dir / "keys" / "second-vault",
            environment=self._environment(),
            is_append_only=self.second_vault_append_only,
        )

    def _environment(self) -> dict[str, str]:
        """Give what the engine knows a server by (restic reads the names of the AWS tools)."""
        given = {
            "AWS_ACCESS_KEY_ID": self.s3_access_key_id and self.s3_access_key_id.get_secret_value(),
            "AWS_SECRET_ACCESS_KEY": self.s3_secret_access_key and self.s3_secret_access_key.get_secret_value(),
            "AWS_DEFAULT_REGION": self.s3_region,
            "RESTIC_CACERT": str(self.certificate_file or ""),
        }
        return {name: value for name, value in given.items() if value}

    def _profiles(self) -> dict[str, ProfileOptions]:
        second = RetentionOptions(
            daily=self.second_keep_daily, weekly=self.second_keep_weekly, monthly=self.second_keep_monthly
        )
        own = RetentionOptions(daily=self.keep_daily, weekly=self.keep_weekly, monthly=self.keep_monthly)
        others = {
            name: ProfileOptions(
                parts=frozenset(profile.parts),
                retention=RetentionOptions(
                    daily=profile.keep_daily, weekly=profile.keep_weekly, monthly=profile.keep_monthly
                ),
                second_retention=second,
            )
            for name, profile in self.profiles.items()
        }
        return {"default": ProfileOptions(retention=own, second_retention=second), **others}

    def _model_file(self, data_dir: Path) -> Path | None:
        if self.model_file is not None:
            return self.model_file
        own = data_dir / "model.pkl"
        return own if own.exists() else None
