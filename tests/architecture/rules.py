"""Rules that each Python file keeps by itself: a rule takes a file and says what is wrong with it."""

from __future__ import annotations

import ast
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.architecture.house import Source

    Rule = Callable[[Source], Iterator[str]]

_LONGEST_FILE = 400
_LONGEST_FUNCTION = 50
_LONGEST_JOB = 10
_JOB_DECORATORS = {"job", "doorbell"}

_VAGUE = {"utils", "util", "common", "helpers", "helper", "misc", "manager", "base"}
_FILES_WITH_A_BASE = {"producer/src/nightcrew/messages/base.py"}
_VAGUE_CLASS = re.compile(r"Manager|Helper|Util")
_VAGUE_FUNCTIONS = {"process", "handle"}
_FILES_WITH_A_HOOK = {"tests/chaos/cutting.py"}  # socketserver calls its handler `handle`

_UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}
_FILES_THAT_ONLY_WRITE = {"tasks/backups/fingerprints.py"}  # marshal gives bytes to hash, and nothing is read back
_FILES_THAT_POLL = {"tests/support/waiting.py"}


def is_short(source: Source) -> Iterator[str]:
    """Files have at most 400 lines."""
    lines = source.text.count("\n")
    if lines > _LONGEST_FILE:
        yield f"{lines} lines, at most {_LONGEST_FILE}"


def has_short_functions(source: Source) -> Iterator[str]:
    """Functions have at most 50 lines."""
    for function in source.functions():
        lines = _last_line(function) - function.lineno + 1
        if lines > _LONGEST_FUNCTION:
            yield f"{function.name} has {lines} lines, at most {_LONGEST_FUNCTION}"


def has_short_jobs(source: Source) -> Iterator[str]:
    """The body of a job, without its docstring, has at most 10 lines."""
    for function in source.functions():
        if not _JOB_DECORATORS & set(decorators(function)):
            continue
        body = function.body[1:] if ast.get_docstring(function) else function.body
        lines = _last_line(function) - body[0].lineno + 1 if body else 0
        if lines > _LONGEST_JOB:
            yield f"job {function.name} has {lines} lines, at most {_LONGEST_JOB}"


def has_telling_names(source: Source) -> Iterator[str]:
    """Modules, classes, functions and variables say what they are."""
    path = PurePosixPath(source.path)
    vague = _VAGUE & {*path.parts[:-1], path.stem}
    if vague and source.path not in _FILES_WITH_A_BASE:
        yield f"file named {', '.join(vague)}"
    vague_functions = set() if source.path in _FILES_WITH_A_HOOK else _VAGUE_FUNCTIONS
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef) and _VAGUE_CLASS.search(node.name):
            yield f"class {node.name}"
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in vague_functions:
            yield f"function {node.name}"
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == "data":
            yield f"line {node.lineno}: a variable named data"
        elif isinstance(node, ast.arg) and node.arg == "data":
            yield f"line {node.lineno}: an argument named data"


def unpickles_nothing(source: Source) -> Iterator[str]:
    """Nobody imports a serialiser that runs code when it reads."""
    allowed = {"marshal"} if source.path in _FILES_THAT_ONLY_WRITE else set()
    for module in imported_modules(source):
        if module.partition(".")[0] in _UNSAFE_MODULES - allowed:
            yield f"imports {module}"


def introduces_itself(source: Source) -> Iterator[str]:
    """Packages and modules say in a sentence what they are for."""
    docstring = ast.get_docstring(source.tree) or ""
    if len(docstring.split()) < 3:
        yield "no docstring"


def tests_state_facts(source: Source) -> Iterator[str]:
    """Tests have a sentence, use no mocks, and never sleep to let something happen."""
    if not source.path.startswith("tests/"):
        return
    for function in source.functions():
        if function.name.startswith("test_") and not ast.get_docstring(function):
            yield f"{function.name} has no sentence"
    if any(module.startswith(("unittest.mock", "mock")) for module in imported_modules(source)):
        yield "imports mocks"
    calls = [node for node in ast.walk(source.tree) if isinstance(node, ast.Call)]
    for node in calls:
        if ast.unparse(node.func) in {"sleep", "time.sleep"} and source.path not in _FILES_THAT_POLL:
            yield f"line {node.lineno}: sleeps instead of waiting for something (tests.support.wait_until)"


RULES: list[Rule] = [
    is_short,
    has_short_functions,
    has_short_jobs,
    has_telling_names,
    unpickles_nothing,
    introduces_itself,
    tests_state_facts,
]


def decorators(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Name the decorators of a function, without their arguments."""
    for decorator in function.decorator_list:
        yield ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)


def imported_modules(source: Source) -> Iterator[str]:
    """Name every module that a file imports, also those it imports late."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _last_line(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return function.end_lineno or function.lineno
