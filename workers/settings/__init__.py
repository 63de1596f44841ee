"""The settings of the service: one frozen tree, read once per process and passed down.

Sources, the first one that has a value wins:

1. environment, `NIGHTCREW_USAGE__PARTITIONS=4`
2. secrets directory (`$CREDENTIALS_DIRECTORY`, set by systemd), one file each: `nightcrew_broker__url`
3. `nightcrew.toml` in the data directory
4. defaults

The data directory itself is `--data-dir`, else `NIGHTCREW_DATA_DIR`, else `.nightcrew` in the current directory.

Reading order: `tree.py` (every setting), `urls.py`, `loading.py` (the sources), `fields.py` and `explaining.py`
(the tree as a list, for people). Owns the files `nightcrew.toml`, `ops/settings.md`, `ops/nightcrew.example.toml`.
"""

from workers.settings.explaining import SettingOrigin, explain, secret_texts, world_readable_secrets
from workers.settings.loading import FILE_NAME, SettingsError, load_settings
from workers.settings.tree import Settings

__all__ = [
    "FILE_NAME",
    "SettingOrigin",
    "Settings",
    "SettingsError",
    "explain",
    "load_settings",
    "secret_texts",
    "world_readable_secrets",
]
