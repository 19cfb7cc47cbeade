"""Orders: the reference application of Twofold.

Read the modules in this order: `items`, `errors`, `events`, `order`, `commands` (the writing side); `views`, `queries`
(the reading side); `app` (both wired together); `schemas`, `http` (the edge); `partners`, `stock`, `refunds`,
`fulfilment`, `fulfilment_http` (what comes after an order: processes that wait for payments, reserve, ship, time out,
pay back); `retail`, `importing`, `simulation` (where orders come from); `serving`, `__main__` (how it is run).
"""
