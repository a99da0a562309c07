"""What makes two sessions of MySQL or MariaDB behave alike or not."""

from __future__ import annotations

# What makes a statement mean one thing in one session and another in the next. Left out is what differs from moment to
# moment. No percent sign is in it: some drivers take that for their own.
_MOMENTARY = [
    "timestamp",
    "pseudo_thread_id",
    "rand_seed1",
    "rand_seed2",
    "last_insert_id",
    "insert_id",
    "identity",
    "warning_count",
    "error_count",
    "last_gtid",
    "gtid_seq_no",
    "in_transaction",
    "statement_id",
    "gtid_executed",
    "gtid_purged",
    "gtid_owned",
    "original_commit_timestamp",
    "immediate_server_version",
    "original_server_version",
    "transaction_write_set_extraction",
]
_LISTED = ", ".join(f"'{name}'" for name in _MOMENTARY)
_WHO = "UNION ALL SELECT 'the user', CURRENT_USER() UNION ALL SELECT 'the role', CURRENT_ROLE()"
_MARIADB_STATE = f"""SELECT LOWER(VARIABLE_NAME), SESSION_VALUE FROM information_schema.SYSTEM_VARIABLES
    WHERE VARIABLE_SCOPE IN ('SESSION', 'SESSION ONLY') AND LOWER(VARIABLE_NAME) NOT IN ({_LISTED}) {_WHO}"""
_MYSQL_STATE = f"""SELECT LOWER(VARIABLE_NAME), VARIABLE_VALUE FROM performance_schema.session_variables
    WHERE LOWER(VARIABLE_NAME) NOT IN ({_LISTED}) {_WHO}"""


def state_of(*, mariadb: bool) -> str:
    return _MARIADB_STATE if mariadb else _MYSQL_STATE
