from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_chat.core.publication import History, Position, Proof, Publication, Published, continues

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


def following(offset: int, tag: int, previous: int) -> Publication:
    return Publication(Position("E", offset, tag), previous, b"{}")


@pytest.mark.parametrize(
    ("position", "publication", "expected"),
    [
        (Position("E", 3, 30), following(4, 40, 30), True),
        (Position("E", 3, 30), following(5, 50, 40), False),
        (Position("E", 3, 30), following(3, 30, 20), False),
        (Position("E", 3, 31), following(4, 40, 30), False),
        (Position("F", 3, 30), following(4, 40, 30), False),
        # A room that was empty when the newest of its store had the tag 30.
        (Position("S", 0, 30), following(1, 31, 30), True),
        (Position("S", 0, 30), following(1, 90, 0), True),
        (Position("S", 0, 30), following(1, 90, 31), False),
        (Position("S", 0, 30), following(1, 30, 20), False),
        (Position("S", 0, 30), following(2, 90, 30), False),
        # Of the same history: just before its first.
        (Position("E", 0, 0), following(1, 90, 0), True),
        (Position("E", 0, 20), following(1, 90, 20), True),
        (Position("E", 0, 0), following(1, 90, 20), False),
    ],
)
def test_what_continues_a_position(position: Position, publication: Publication, expected: bool) -> None:
    assert continues(position, publication) is expected


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
