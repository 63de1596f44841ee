"""What an operator asks of the ledger, and does to it. Every value has `to_json()`.

Whatever changes runs goes by ids that were selected before: what was shown is what is done, and a run that has changed
meanwhile is judged again under its lock.

Reading order: `finding.py` (runs by id and by filter), `summary.py`, `story.py` (all about one run), `watching.py`,
`retrying.py`, `cancelling.py`, `letters.py`.
"""

from tasks.ledger.operations.cancelling import cancel_runs, plan_cancels
from tasks.ledger.operations.finding import UnknownRunError, find_run, list_runs, select_runs, take_in_new
from tasks.ledger.operations.letters import (
    LetterTreatment,
    UnknownLetterError,
    find_dead_letter,
    list_dead_letters,
    plan_letters,
    retry_dead_letter,
    retry_dead_letters,
    select_dead_letters,
)
from tasks.ledger.operations.retrying import NotRetryableError, plan_retries, retry_run, retry_runs
from tasks.ledger.operations.story import Branch, RunStory, tell_story
from tasks.ledger.operations.summary import LedgerSummary, queue_depths, summarize
from tasks.ledger.operations.watching import Sight, look_at_live, look_at_runs

__all__ = [
    "Branch",
    "LedgerSummary",
    "LetterTreatment",
    "NotRetryableError",
    "RunStory",
    "Sight",
    "UnknownLetterError",
    "UnknownRunError",
    "cancel_runs",
    "find_dead_letter",
    "find_run",
    "list_dead_letters",
    "list_runs",
    "look_at_live",
    "look_at_runs",
    "plan_cancels",
    "plan_letters",
    "plan_retries",
    "queue_depths",
    "retry_dead_letter",
    "retry_dead_letters",
    "retry_run",
    "retry_runs",
    "select_dead_letters",
    "select_runs",
    "summarize",
    "take_in_new",
    "tell_story",
]
