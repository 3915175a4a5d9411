"""How refusals look in the HTTP interface, for its description: problem JSON after RFC 9457."""

from typing import Any, Final

from pydantic import BaseModel, Field


class ProblemBody(BaseModel):
    """What went wrong; `field` names the input that is meant, `reference` stands in the hub's log."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["name: is 1 to 80 printable characters"])
    field: str | None = Field(None, examples=["name"])
    reference: str | None = None


_WORDS: Final = {
    400: "The request is no HTTP that can be read",
    401: "No token, or one that does not count",
    403: "The caller may not do this",
    404: "There is no such thing, or it is another agent's",
    409: "It is no longer in the state that the request expects",
    413: "The request is too large",
    422: "An input breaks a rule",
    429: "Too many requests; see Retry-After",
    503: "The database did not answer; see Retry-After",
}

PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    status: {
        "description": words,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemBody"}}},
    }
    for status, words in _WORDS.items()
}
