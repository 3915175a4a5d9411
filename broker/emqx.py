"""Grants as the rules that EMQX 5 takes in an authentication answer."""

from collections.abc import Iterator

from hub.access.grants import Grant


def emqx_rules(grants: tuple[Grant, ...]) -> Iterator[dict[str, str]]:
    """The grants as EMQX's rules, closed by a denial of the rest; never more than they say, and at times less.

    EMQX takes `#` in a filter that a client asks for as just another level, so its `a/+` admits a subscription to
    `a/#`. A subscribe grant that holds a `+` is therefore given as `eq`, for that very filter alone. `${…}` would be a
    placeholder to EMQX: no topic of ours holds one, and a grant that did would not be given.
    """
    for grant in grants:
        if "${" in grant.filter:
            continue
        exactly = grant.action == "subscribe" and "+" in grant.filter.split("/")
        topic = f"eq {grant.filter}" if exactly else grant.filter
        yield {"permission": "allow", "action": grant.action, "topic": topic}
    for everything in ("#", "$SYS/#"):
        yield {"permission": "deny", "action": "all", "topic": everything}
