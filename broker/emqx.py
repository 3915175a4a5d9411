"""Grants as the rules that EMQX 5 takes in an authentication answer."""

from collections.abc import Iterable, Iterator
from typing import Final

from hub.access.grants import Grant

# `#` matches nothing that begins with `$`; what is published to `$delayed/1/a` EMQX publishes to `a` unasked.
_REST: Final = ("#", "$SYS/#", "$delayed/#", "$exclusive/#", "$file/#", "$queue/#")


def emqx_rules(grants: Iterable[Grant]) -> Iterator[dict[str, str]]:
    """The grants as EMQX's rules, closed by a denial of the rest; never more than they say, and at times less.

    EMQX takes `#` in a filter that a client asks for as just another level, so its `a/+` admits a subscription to
    `a/#`. A subscribe grant that holds a `+` is therefore given as `eq`, for that very filter alone. `${…}` would be a
    placeholder to EMQX, and what begins with `eq ` the filter behind it: a grant that holds one is not given.
    """
    for grant in grants:
        if "${" in grant.filter or grant.filter.startswith("eq "):
            continue
        exactly = grant.action == "subscribe" and "+" in grant.filter.split("/")
        topic = f"eq {grant.filter}" if exactly else grant.filter
        yield {"permission": "allow", "action": grant.action, "topic": topic}
    for everything in _REST:
        yield {"permission": "deny", "action": "all", "topic": everything}
