"""A filled command has as many words as its template, and each holds what was given: whatever that is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from satellite_agent.verbs.template import Template, TemplateError

TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=60)


@given(st.lists(st.text(max_size=12), max_size=4))
def test_any_command_is_a_template_or_named_as_none(words):
    try:
        template = Template.parse(["/bin/echo", *words])
    except TemplateError as error:
        told = str(error)
    else:
        told = "it is one"
        assert all(name.isidentifier() for name in template.names)
    assert told


@given(TEXT, TEXT)
def test_a_value_stays_in_its_word(first, second):
    template = Template.parse(["/bin/echo", "--a={a}", "--", "{b}{a}", "{{a}}"])
    assert template.names == {"a", "b"}
    assert template.fill({"a": first, "b": second}) == [
        *("/bin/echo", f"--a={first}", "--", second + first, "{a}"),
    ]


@given(TEXT)
def test_without_the_dashes_a_value_is_no_option(text):
    template = Template.parse(["/bin/echo", "{a}"])
    if text.startswith("-"):
        with pytest.raises(ValueError, match="must not begin"):
            template.fill({"a": text})
        assert template.fill({"a": text}, chosen=["a"])[1] == text
    else:
        assert template.fill({"a": text}) == ["/bin/echo", text]
