"""Logs that become other logs: events are renamed, split, dropped or tagged on the way, or come from other stores.

1. `plain_event.py` says what a transform is: a function from an event, as plain data, to the events it becomes.
2. A source gives events in order: `log_source.py` those of a log, `twofold.log.importers` those of other stores.
3. `transforming.py` makes the rows of the target: ids, places, checksums; `renumbering.py` knows the places.
4. `moving.py` is the flow: transform, compare with what the target holds, store, and compare with what was stored.
5. `transform.py`, the public function, and `fork.py` are what is built of them.
"""
