"""Tables of the trace store.

Four were there first: runs, calls, steps, checks. The rest stand beside them, so that files of both kinds can be read
and written by both: a store gains the tables that it lacks when it is opened for writing. Calls and steps are tables
with row ids, since their rows are large: in a table without (as older files have them) most would spill to pages of
their own.
"""

from __future__ import annotations

SCHEMA_VERSION = 2

SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
  run_id TEXT PRIMARY KEY, program TEXT NOT NULL, flow TEXT NOT NULL,
  study TEXT NOT NULL, phase TEXT NOT NULL, step INTEGER NOT NULL, example TEXT NOT NULL, rollout INTEGER NOT NULL,
  inputs TEXT NOT NULL, outputs TEXT, failure TEXT, reward REAL,
  calls INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
  started REAL NOT NULL, seconds REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS runs_started ON runs (started);
CREATE TABLE IF NOT EXISTS calls (
  run_id TEXT NOT NULL REFERENCES runs, judged INTEGER NOT NULL,
  call_key TEXT NOT NULL, retry INTEGER NOT NULL, attempt INTEGER NOT NULL,
  node TEXT NOT NULL, module TEXT NOT NULL, lm TEXT NOT NULL, engine TEXT NOT NULL, model TEXT NOT NULL, adapter TEXT,
  template TEXT NOT NULL, prompt_ids BLOB NOT NULL, completion_ids BLOB NOT NULL, logprobs BLOB NOT NULL,
  temperature REAL NOT NULL, seed INTEGER NOT NULL, constrained INTEGER NOT NULL, finish_reason TEXT NOT NULL,
  text TEXT NOT NULL, inputs TEXT NOT NULL, outputs TEXT, failure TEXT, checks TEXT NOT NULL,
  cached_tokens INTEGER NOT NULL,
  started REAL NOT NULL, seconds REAL NOT NULL, queue_seconds REAL NOT NULL, prefill_seconds REAL NOT NULL,
  decode_seconds REAL NOT NULL,
  PRIMARY KEY (run_id, judged, call_key, retry, attempt)
);
CREATE TABLE IF NOT EXISTS steps (
  run_id TEXT NOT NULL REFERENCES runs, call_key TEXT NOT NULL, node TEXT NOT NULL, kind TEXT NOT NULL,
  name TEXT NOT NULL, inputs TEXT NOT NULL, output TEXT NOT NULL, failure TEXT,
  started REAL NOT NULL, seconds REAL NOT NULL,
  PRIMARY KEY (run_id, call_key)
);
CREATE TABLE IF NOT EXISTS checks (
  run_id TEXT NOT NULL REFERENCES runs, call_key TEXT NOT NULL, node TEXT NOT NULL, kind TEXT NOT NULL,
  message TEXT NOT NULL, passed INTEGER, found TEXT NOT NULL,
  PRIMARY KEY (run_id, call_key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS run_settings (
  run_id TEXT PRIMARY KEY REFERENCES runs, decoding TEXT, temperature REAL, seed INTEGER, place TEXT NOT NULL,
  run_sum INTEGER NOT NULL, rows_sum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS run_settings_place ON run_settings (place) WHERE place != '';
CREATE TABLE IF NOT EXISTS sources (
  run_id TEXT NOT NULL REFERENCES runs, judged INTEGER NOT NULL,
  call_key TEXT NOT NULL, retry INTEGER NOT NULL, attempt INTEGER NOT NULL, source TEXT NOT NULL,
  PRIMARY KEY (run_id, judged, call_key, retry, attempt)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS costs (
  run_id TEXT NOT NULL REFERENCES runs, judged INTEGER NOT NULL,
  call_key TEXT NOT NULL, retry INTEGER NOT NULL, attempt INTEGER NOT NULL, attempts INTEGER NOT NULL, cost REAL,
  PRIMARY KEY (run_id, judged, call_key, retry, attempt)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS run_scores (
  run_id TEXT PRIMARY KEY REFERENCES runs, parts TEXT NOT NULL, failed TEXT NOT NULL, sum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS private (program TEXT PRIMARY KEY, names TEXT NOT NULL) WITHOUT ROWID;
"""

OF_RUNS = ("runs", "calls", "steps", "checks", "run_settings", "sources", "costs", "run_scores")
"""Tables whose rows belong to one run."""
