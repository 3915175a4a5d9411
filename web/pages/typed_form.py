"""A form whose fields are known only when it comes in, as browsers send it."""

from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import FormData

from hub.errors import Invalid

_MOST_FIELDS = 500


async def _form(request: Request) -> FormData:
    async with request.form(max_files=0, max_fields=_MOST_FIELDS) as form:
        return form


TypedForm = Annotated[FormData, Depends(_form)]


def text_of(form: FormData, name: str, *, most: int = 65_536) -> str:
    """A field's text, "" when it is missing; raises `Invalid` when it is too long."""
    value = form.get(name, "")
    if not isinstance(value, str) or len(value) > most:
        raise Invalid(f"is at most {most} characters", field=name)
    return value


def texts_of(form: FormData, name: str, *, most: int = _MOST_FIELDS) -> list[str]:
    """All texts of a field that may come several times."""
    return [value for value in form.getlist(name) if isinstance(value, str)][:most]
