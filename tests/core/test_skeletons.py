from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_chat.core.skeletons import skeleton, unlike_itself


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ann", "Ann"),
        ("ann", "\u0430nn"),  # CYRILLIC SMALL LETTER A
        ("paypal", "p\u0430yp\u0430l"),
        ("Ill", "lll"),
        ("\u041e\u041b\u0415\u0413", "O\u041b\u0415\u0413"),  # CYRILLIC CAPITAL LETTER O
        ("\uff41\uff4e\uff4e", "ann"),
        ("\U0001d41a\U0001d427\U0001d427", "ann"),
        ("Zo\u00eb", "Zoe\u0308"),
    ],
)
def test_names_that_look_alike_have_one_skeleton(one: str, other: str) -> None:
    assert skeleton(one) == skeleton(other)


@pytest.mark.parametrize(
    ("one", "other"), [("ann", "anna"), ("ann", "bob"), ("\u05d0", "\u05d1"), ("\u5c71", "\u5ddd")]
)
def test_names_that_look_different_have_different_ones(one: str, other: str) -> None:
    assert skeleton(one) != skeleton(other)


@given(st.text(min_size=1, max_size=64))
def test_a_skeleton_is_its_own(text: str) -> None:
    found = skeleton(text)
    assert skeleton(found) == found


def test_plain_names_need_no_skeleton() -> None:
    assert unlike_itself("Ann") is None
    assert unlike_itself("ann 7") is None
    assert unlike_itself("\u0430nn") == "ann"
