"""Entity tags: lists of them, and marks."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from extproc.core.entity_tags import marked, tags_of, unmarked

INSIDE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters='"\x7f'))
TAGS = st.builds(lambda weak, text: f'{weak}"{text}"', st.sampled_from(["", "W/"]), INSIDE)
MARKS = st.text("0123456789abcdef", min_size=8, max_size=8)


@given(TAGS, MARKS, MARKS)
@example('"~"', "00000000", "00000001")
def test_a_mark_comes_off_again(tag: str, mark: str, other: str) -> None:
    """As strong as it was; another mark isn't taken for it."""
    own = marked(tag, mark)
    assert own.startswith("W/") is tag.startswith("W/")
    assert tags_of(own) == [own]
    assert unmarked(own, mark) == tag
    assert mark == other or unmarked(own, other) is None


@given(st.text(st.characters(max_codepoint=0xFF)), MARKS)
@example("*", "00000000")
@example('"a', "00000000")
@example('"a", "b"', "00000000")
def test_what_is_no_tag_stays(value: str, mark: str) -> None:
    """Or it is one, and gets its mark before the last quote."""
    got = marked(value, mark)
    assert got in {value, f'{value[:-1]}~{mark}"'}
    assert (got == value) is (unmarked(got, mark) is None)


@given(st.lists(TAGS, min_size=1), st.sampled_from([",", ", ", " ,\t", ",,", ", ,"]))
def test_lists(tags: list[str], between: str) -> None:
    """Commas may stand in a tag, and elements may be empty (RFC 9110 section 5.6.1)."""
    assert tags_of(between.join(tags)) == tags
