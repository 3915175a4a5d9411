"""The two ways in which something on the wire can be wrong."""


class ProtocolError(ValueError):
    """Something does not follow the wire protocol."""


class BadName(ProtocolError):
    """A root, level, handle or topic breaks the naming rule.

    `field` names what was given ("handle", "event type", …), `rule` says what is allowed.
    """

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}")
        self.field = field
        self.rule = rule


class Malformed(ProtocolError):
    """A payload is not the message that its topic asks for.

    `field` is a path such as `verbs[0].name` (empty when the payload as a whole is meant), `rule` what was broken.
    """

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"field `{field}`: {rule}" if field else rule)
        self.field = field
        self.rule = rule
