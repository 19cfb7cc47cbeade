"""Events of other stores, read from their tables: `eventsourcing`, message-db and Marten.

1. `tables.py` reads a database in one transaction, page by page.
2. `eventsourcing.py`, `message_db.py` and `marten.py` each say what a table is called and what a row of it becomes.
3. `foreign_source.py` gives the events in their order; `importing.py` moves them into a log.
"""
