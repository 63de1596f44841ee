"""What changed between two states of a file of pages, such as a SQLite database, without the older state at hand.

A page list (`database/pages`) holds 16 bytes for each page of a file. A delta (`database/delta.pages.zst`) holds the
pages that differ from such a list. The older file and the delta give the newer file, byte by byte, or an error.

Both are made for decades: `zstd -d` opens a delta, and then all numbers are big-endian and all of it is

    header   16 bytes magic, 4 bytes of a page, 8 bytes of the parent, 32 sha256 of the parent, 8 bytes of the result
    runs     4 number of the first page (from 0), 4 how many pages, the pages (up to 1 MiB); in their order;
             the last page of a file may be shorter than the others
    end      4 bytes 255, 4 how many pages were changed, 32 sha256 of the result

A list is a header (16 magic, 4 bytes of a page, 8 bytes of the file, 32 sha256 of the file), the first 16 bytes of the
SHA-256 of each page, and the BLAKE2b-128 of all that. What `zstd -d` passes over at the end of a delta is the
BLAKE2b-256 of the rest.

Pure: streams in, streams out. Reading order: `lists.py`, `delta.py`, `patching.py`, `whole.py`.
"""
