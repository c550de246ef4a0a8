from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_chat.core.publication import History, Position, Proof, Publication, Published

EPOCHS = st.from_regex(r"[A-Za-z0-9]{1,32}", fullmatch=True)
NUMBERS = st.integers(min_value=0, max_value=10**18 - 1)


@given(EPOCHS, NUMBERS, NUMBERS)
def test_a_position_is_read_back_from_its_text(epoch: str, offset: int, tag: int) -> None:
    position = Position(epoch, offset, tag)
    assert Position.parse(str(position)) == position


def test_the_text_is_epoch_offset_and_tag() -> None:
    assert str(Position("kQ3x", 17, 1763796000123456)) == "kQ3x-17-1763796000123456"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kQ3x",
        "kQ3x-17",
        "kQ3x-17-",
        "-17-1",
        "kQ3x-17-1-2",
        "kQ3x-17-1\n",
        " kQ3x-17-1",
        "kQ3x--17-1",
        "kQ3x-1.5-1",
        "kQ3x-1_0-1",
        "kQ3x-+1-1",
        "kQ3x-017-1",
        "kQ3x-17-00",
        "k_x-17-1",
        "\u00e9-17-1",
        "kQ3x-\u0661-1",
        "kQ3x-1\u0661-1",
        "kQ3x-1-1\u0661",
        "kQ3x-17-\u0967",
        "x" * 33 + "-17-1",
        "kQ3x-1000000000000000000-1",
        "kQ3x-1-1000000000000000000",
    ],
)
def test_what_is_no_position_is_none(text: str) -> None:
    assert Position.parse(text) is None


@given(st.text(st.characters() | st.sampled_from("-0123456789k\u0661"), max_size=60))
def test_a_position_has_one_text_only(text: str) -> None:
    position = Position.parse(text)
    assert position is None or str(position) == text


def test_values_do_not_change() -> None:
    publication = Publication(Position("e", 1, 2), 0, b"{}")
    with pytest.raises(AttributeError, match="immutable"):
        publication.data = b""  # type: ignore[misc]  # that it cannot be set is what is tested
    assert publication == Publication(Position("e", 1, 2), 0, b"{}")
    assert len({publication, Publication(Position("e", 1, 2), 0, b"{}")}) == 1


def test_a_publication_is_no_duplicate_and_a_history_empty_unless_said() -> None:
    publication = Publication(Position("e", 1, 2), 0, b"{}")
    assert not Published(publication).duplicate
    assert History(publication.position, Proof.COMPLETE).publications == ()
