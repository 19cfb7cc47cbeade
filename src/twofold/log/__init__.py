"""Events in and out: the event store, its codec, subscriptions, and what reads or copies a whole log."""
