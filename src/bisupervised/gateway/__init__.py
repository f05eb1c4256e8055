"""The gateway: the cascade behind the interfaces that people already use.

A request's way: `app` (routes) -> `completions` or `v2` (the wire) -> `service` (admission, modes, the store) ->
`journey` or `classifier` (one request through the heart) -> `levels` and `upstream` (asking) -> the answer, and one
row in the decision log. `building` puts it together from `cascade.toml`, `server` runs it.
"""
