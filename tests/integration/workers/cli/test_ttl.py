"""`nightcrew ttl study --trace`: a file in, curves out, and what is wrong with a file in one line."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest
import zstandard

from tasks.ttl.reading import read_trace
from tests.support.traces import played, weblog

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.workers.cli.conftest import Command

LINES = """\
ts_s,key,family,size,op
0,a,one,10,
1.5,a,one,10,get
2,b,two,,get
2,b,two,,set
30,b,two,,get
31,a,one,10,delete
32,a,one,10,
"""


def test_each_family_gets_its_curve(nobody: Command, tmp_path: Path) -> None:
    """With what was named, in its order; without a crew."""
    file = tmp_path / "trace.csv"
    file.write_text(LINES, encoding="utf-8")
    answer = nobody("ttl", "study", "--trace", str(file), "--mode", "fixed", "--ttl", "1,1.5,40")
    one, two = answer["families"]["one"], answer["families"]["two"]
    assert [(point["ttl_s"], point["hits"]) for point in one["curve"]] == [(1, 0), (1.5, 1), (40, 1)]
    assert [(point["ttl_s"], point["hits"]) for point in two["curve"]] == [(1, 0), (1.5, 0), (40, 1)]
    assert (one["requests"], one["keys"], two["requests"], two["one_hit_keys"]) == (3, 1, 2, 0)
    assert [point["censored"] for point in one["curve"]] == [False, False, True]
    assert "one: 3 requests for 1 keys" in nobody.text("ttl", "study", "--trace", str(file))


@pytest.mark.parametrize("mode", ["sliding", "fixed"])
def test_a_real_day_is_exact(nobody: Command, tmp_path: Path, mode: str) -> None:
    """As CSV it gives what playing it through gives, to the last request."""
    trace, ttls_s = weblog(), [60, 3_600, 43_200]
    rows = (f"{at / 1000},{key}\n" for at, key in zip(trace.at_ms.tolist(), trace.key.tolist(), strict=True))
    file = tmp_path / "day.csv.gz"
    with gzip.open(file, "wt", encoding="utf-8") as out:
        out.writelines(["ts_s,key\n", *rows])
    answer = nobody("ttl", "study", "--trace", str(file), "--mode", mode, "--ttl", ",".join(map(str, ttls_s)))
    hits = [point["hits"] for point in answer["families"]["all"]["curve"]]
    assert hits == played(trace, [ttl_s * 1_000 for ttl_s in ttls_s], "sliding" if mode == "sliding" else "fixed")
    auto = nobody("ttl", "study", "--trace", str(file), "--mode", mode)["families"]["all"]["curve"]
    assert len(auto) == 40
    assert (auto[0]["ttl_s"], auto[-1]["ttl_s"]) == (1, pytest.approx(trace.span_ms / 2_000, abs=1))


def test_lines_need_no_order_and_files_may_be_packed(tmp_path: Path) -> None:
    """By time, those of one instant as they stand."""
    file = tmp_path / "trace.csv.zst"
    text = 'key,ts_s\r\nb,2\r\na,1\r\n"with, comma",2\r\n'
    file.write_bytes(zstandard.ZstdCompressor().compress(text.encode()))
    trace = read_trace(file)
    assert (trace.at_ms.tolist(), trace.key.tolist()) == ([1_000, 2_000, 2_000], [1, 0, 2])
    assert trace.size_bytes is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the first line must name the columns"),
        ("ts_s,key\n", "has no requests"),
        ("ts_s,key,color\n1,a,red\n", "the first line must name the columns"),
        ("ts_s,key\nsoon,a\n", "line 2: ts_s must be seconds"),
        ("ts_s,key\n1,a\nnan,a\n", "line 3: ts_s must be seconds"),
        ("ts_s,key\n1,a,b\n", "line 2: ts_s must be seconds as a number"),
        ("ts_s,key,size\n1,a,-5\n", "line 2: size must be a number of bytes"),
        ("ts_s,key,op\n1,a,touch\n", "line 2: op must be get, set or delete"),
    ],
)
def test_a_file_that_is_no_trace_is_told(nobody: Command, tmp_path: Path, text: str, said: str) -> None:
    """With the line, in one line."""
    file = tmp_path / "trace.csv"
    file.write_text(text, encoding="utf-8")
    nobody("ttl", "study", "--trace", str(file), code=2)
    assert said in nobody.errors


@pytest.mark.parametrize("arguments", [("--ttl", "0"), ("--ttl", "1,x"), ("--ttl", ""), ("--mode", "both")])
def test_mistakes_are_told(nobody: Command, tmp_path: Path, arguments: tuple[str, str]) -> None:
    """Before anything is read."""
    nobody("ttl", "study", "--trace", str(tmp_path / "none.csv"), *arguments, code=2)
    assert arguments[0] in nobody.errors


def test_a_file_that_is_not_there_or_not_packed_is_told(nobody: Command, tmp_path: Path) -> None:
    """By its name."""
    nobody("ttl", "study", "--trace", str(tmp_path / "none.csv"), code=2)
    assert "none.csv cannot be read" in nobody.errors
    packed = tmp_path / "trace.csv.gz"
    packed.write_bytes(b"ts_s,key\n1,a\n")
    nobody("ttl", "study", "--trace", str(packed), code=2)
    assert "cannot be read" in nobody.errors
