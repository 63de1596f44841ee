"""The recovery kit: all that a bare machine needs beside this project to restore everything.

It holds the passwords of the vaults. It belongs on paper or into a safe for passwords, never beside the vault and never
into it: a vault that only its own contents can open is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from tasks.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from tasks.runtime import BackupOptions, VaultOptions

VERSION: Final = 1


class UnreadableKitError(PermanentError):
    """A file is no recovery kit, or is of a newer release."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True, hide_input_in_errors=True)


class KitVault(_Value):
    """A vault, and what opens it."""

    name: Literal["primary", "second"]
    location: Annotated[str, Field(min_length=1)]
    password: Annotated[str, Field(min_length=1, repr=False)]
    environment: Annotated[dict[str, str], Field(repr=False)] = {}
    """For the engine alone, such as the keys of S3."""
    is_append_only: bool = False


class Kit(_Value):
    """A recovery kit."""

    read_me: list[str]
    """What to type, in this order, for people."""
    nightcrew_kit: Literal[1] = VERSION
    made_at: AwareDatetime
    crew: str | None = None
    """The name that the points of this crew have in the vaults: those of others are left out."""
    vaults: Annotated[list[KitVault], Field(min_length=1)]
    profiles: dict[str, list[str]]
    """What each profile takes."""
    database: str
    """Which engine is backed up: `sqlite` or `postgresql`."""
    tools: dict[str, str]
    """Versions of what the points were made with, by name."""

    def to_json(self) -> str:
        """Give the file. It is secret."""
        return self.model_dump_json(indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the file.

        Raises:
            UnreadableKitError: it is no kit, or is of a newer release. The text has nothing of what it holds.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            msg = f"this is no recovery kit that this release can read: {where}: {first['msg']}"
            raise UnreadableKitError(msg) from None

    def vault(self, name: str) -> KitVault:
        """Find a vault of it.

        Raises:
            UnreadableKitError: it has none of this name.
        """
        for vault in self.vaults:
            if vault.name == name:
                return vault
        msg = f"the recovery kit has no vault {name!r}, only {', '.join(vault.name for vault in self.vaults)}"
        raise UnreadableKitError(msg)


def compose_kit(
    options: BackupOptions,
    passwords: Mapping[str, str],
    *,
    database: str,
    tools: Mapping[str, str],
    now: datetime,
    crew: str | None = None,
) -> Kit:
    """Put a kit together; `passwords` are by name of the vault."""
    places = {"primary": options.vault, "second": options.second_vault}
    vaults = [_vault(name, place, passwords[name]) for name, place in places.items() if place is not None]
    return Kit(
        read_me=instructions(vaults, database=database, tools=tools),
        made_at=now,
        crew=crew,
        vaults=vaults,
        profiles={name: sorted(profile.parts) for name, profile in sorted(options.profiles.items())},
        database=database,
        tools=dict(sorted(tools.items())),
    )


def instructions(vaults: Sequence[KitVault], *, database: str, tools: Mapping[str, str]) -> list[str]:
    """Say how a bare machine comes back, with the commands to type."""
    others = [f"The same vault is kept a second time: add `--vault {one.name}` to use it." for one in vaults[1:]]
    local = [one.location for one in vaults if one.location.startswith("/")]
    needed = "restic redis-tools postgresql" if database == "postgresql" else "restic redis-tools"
    mount = [f"Mount the disk that holds {place} at the same path." for place in local]
    return [
        "Nightcrew recovery kit. SECRET: whoever has it reads every backup. Keep it on paper or in a safe.",
        f"Made with {', '.join(f'{name} {version}' for name, version in sorted(tools.items()))}.",
        *mount,
        f"1. sudo apt-get install {needed}",
        "2. Unpack the same release of Nightcrew, and in its directory: ops/setup.sh run",
        "3. Save this text as kit.json, and: chmod 600 kit.json",
        "4. nightcrew backup list --from-vault --kit kit.json",
        "5. nightcrew restore latest --to ./restored --kit kit.json",
        "6. Read restored/restore.json: it says where each file belongs.",
        "   Files in quarantine/ are the broker's: a broker that starts on them delivers old messages again.",
        *others,
        *_by_hand(vaults[0]),
    ]


def _by_hand(vault: KitVault) -> list[str]:
    """Say how a point is read without Nightcrew: a full database is one file for `zstd -d`."""
    return [
        "Without Nightcrew, where restic asks for the password:",
        f"   restic -r {vault.location} snapshots",
        f"   restic -r {vault.location} restore ID --target DIR",
        "   Every file there is plain, or made by zstd.",
    ]


def _vault(name: str, place: VaultOptions, password: str) -> KitVault:
    return KitVault.model_validate(
        {
            "name": name,
            "location": place.location,
            "password": password,
            "environment": dict(place.environment),
            "is_append_only": place.is_append_only,
        }
    )
