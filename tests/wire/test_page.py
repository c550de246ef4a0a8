"""Pages of history: whole, and in pieces of the same bytes."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from twisted_chat.core.publication import Position, Publication
from twisted_chat.wire import room
from twisted_chat.wire.page import Page

NUMBERS = st.integers(0, 10**15)
POSITIONS = st.builds(Position, st.text("abcXYZ019", min_size=1, max_size=32), NUMBERS, NUMBERS)
DATA = st.builds(room.compose, st.text(max_size=10), st.text(max_size=300), st.none() | st.text(max_size=5))
PUBLICATIONS = st.builds(Publication, POSITIONS, NUMBERS, DATA)
PAGES = st.builds(Page, st.lists(PUBLICATIONS, max_size=20).map(tuple), POSITIONS, st.booleans(), st.booleans())


def test_a_page_of_history() -> None:
    publications = tuple(Publication(Position("e", n, n), n - 1, room.compose("ann", str(n), None)) for n in (1, 2))
    page = json.loads(Page(publications, Position("e", 2, 2), complete=True, more=False).text())
    assert [message["message"] for message in page["messages"]] == ["1", "2"]
    assert (page["position"], page["complete"], page["more"]) == ("e-2-2", True, False)


@given(PAGES, st.integers(1, 2_000))
def test_pieces_are_the_page(page: Page, size: int) -> None:
    text, pieces = page.text(), list(page.pieces(size))
    assert [json.dumps(found["id"]) for found in json.loads(text)["messages"]] == [
        json.dumps(str(publication.position)) for publication in page.publications
    ]
    assert page.size() == len(text)
    assert b"".join(pieces) == text
    assert all(size <= len(piece) for piece in pieces[:-1])
    longest = max((len(room.message(publication)) for publication in page.publications), default=0)
    assert all(len(piece) <= size + longest + len(b'{"messages":[,') for piece in pieces[:-1])
