"""examples/django_chat: Django, Redis, the server and its workers are real ones, and so are two browsers."""

from __future__ import annotations

import json
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from playwright.sync_api import Page, expect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.browser.conftest import People
from tests.examples.conftest import Stage
from tests.relay.redis_server import RedisServer
from tests.twistd import until

EXAMPLE = Path(__file__).parents[2] / "examples" / "django_chat"
PASSWORD = "four words make a password"
SET_UP = f"""
from django.contrib.auth.models import User
from django.core.management import call_command
from chat.models import Room
call_command("migrate", verbosity=0)
call_command("makemigrations", check=True, dry_run=True, verbosity=0)
for name in ("ann", "bob"):
    User.objects.create_user(name, password={PASSWORD!r})
"""

DOOMED = """
import os
import time
from pathlib import Path

from chat.models import Room
from project.routing import channel_routing

store = Room.say

def hang(text):
    Path(os.environ["HANGS"], text).touch()
    time.sleep(600)

def say(room, author_id, text, key=None):
    if text == "before":
        hang(text)
    store(room, author_id, text, key)
    hang(text)

Room.say = say
"""
"""The routing of a worker that stops in the middle of an event: before or after the message is stored."""


class Site:
    """The whole: `web` is Django, `chat` the server, `worker` what runs the consumers."""

    def __init__(self, stage: Stage, redis: RedisServer) -> None:
        self._stage = stage
        self.url = f"http://127.0.0.1:{(web := stage.port())}"
        self.sockets = f"ws://127.0.0.1:{(port := stage.port())}"
        self._database = stage.directory / "db.sqlite3"
        keys = stage.directory / "keys"
        keys.mkdir(mode=0o700)
        self._users: dict[str, httpx.Client] = {}
        for name in ("django-secret", "token-key", "api-keys"):
            (keys / name).write_text(secrets.token_urlsafe(48) + "\n")
            (keys / name).chmod(0o600)
        self.token_key = (keys / "token-key").read_text().strip()
        self._environ = {
            "CHAT_KEYS": str(keys),
            "CHAT_DATABASE": str(self._database),
            "CHAT_SOCKETS": self.sockets,
            "CHAT_SERVER": self.sockets.replace("ws", "http"),
            "DJANGO_SETTINGS_MODULE": "project.settings",
        }
        relay = ("--relay", redis.url)
        self.web = stage.python(
            *("web", "manage.py", "runserver", "--noreload", f"127.0.0.1:{web}"),
            ready="Quit the server",
            **self._environ,
        )
        self.chat = stage.twistd(
            *("chat", "chat", "-p", f"tcp:{port}:interface=127.0.0.1", *relay, "--consumers", "remote"),
            *("--token-key-file", keys / "token-key", "--api-key-file", keys / "api-keys"),
            *("--allow-origin", self.url, "--drain", "1"),
            ready="open http",
        )
        self.worker = stage.twistd(
            *("worker", "chat-worker", *relay, "--routing", "project.routing:channel_routing", "--threads", "2"),
            ready="runs consumers of",
            **self._environ,
        )
        self.hangs = stage.directory / "hangs"
        self.hangs.mkdir()
        (stage.directory / "doomed.py").write_text(DOOMED)
        self.doomed_worker = stage.twistd(
            *("doomed", "chat-worker", *relay, "--routing", "doomed:channel_routing", "--threads", "3"),
            ready="runs consumers of",
            **self._environ,
            PYTHONPATH=str(stage.directory),
            HANGS=str(self.hangs),
        )

    def start(self) -> None:
        self.chat.begin()
        self._manage("shell", "--command", SET_UP)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda program: program.start(), (self.web, self.worker)))
        self.chat.wait()

    def _manage(self, *arguments: str) -> None:
        ended = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=self._stage.example,
            env=self._stage.environment(**self._environ),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr

    # As a program asks, or a page

    def _user(self, name: str) -> httpx.Client:
        """Somebody who has logged in."""
        if name not in self._users:
            user = self._users[name] = httpx.Client(base_url=self.url, trust_env=False, timeout=60)
            user.get("/login/")
            answer = user.post(
                "/login/",
                data={"username": name, "password": PASSWORD, "csrfmiddlewaretoken": user.cookies["csrftoken"]},
            )
            assert answer.status_code == 302
        return self._users[name]

    def request(self, method: str, path: str, user: str = "ann", **fields: Any) -> httpx.Response:
        client = self._user(user)
        headers = {"X-CSRFToken": client.cookies["csrftoken"]}
        return client.request(method, f"/api/rooms/{path}", headers=headers, json=fields or None)

    def close(self) -> None:
        for user in self._users.values():
            user.close()

    def make_room(self) -> str:
        """The label of a new one."""
        label = f"room-{secrets.token_hex(4)}"
        assert self.request("POST", "", label=label, name=label.title()).status_code == 201
        return label

    def token(self, room: str, user: str = "ann") -> str:
        return str(self.request("GET", f"{room}/token/", user).json()["token"])

    def stored(self, room: str) -> list[tuple[int, str, str]]:
        """What the database has: number, author, text."""
        question = """
            select number, username, text from chat_message
            join chat_room on chat_room.id = room_id join auth_user on auth_user.id = author_id
            where label = ? order by number
        """
        return self._query(question, room)

    def store_untold(self, room: str, number: int, text: str) -> None:
        """What a program leaves that dies before it has told what it stored."""
        [(room_id,)] = self._query("select id from chat_room where label = ?", room)
        insert = """
            insert into chat_message (room_id, number, timestamp, author_id, text)
            values (?, ?, datetime('now'), (select id from auth_user where username = 'ann'), ?)
        """
        self._query(insert, room_id, number, text)
        self._query("update chat_room set last_number = ? where id = ?", number, room_id)

    def _query(self, question: str, *arguments: object) -> list[Any]:
        database = sqlite3.connect(self._database, timeout=60)
        try:
            with database:
                return database.execute(question, arguments).fetchall()
        finally:
            database.close()


@pytest.fixture(scope="module")
def site(make_stage: Callable[[Path], Stage], redis: RedisServer) -> Iterator[Site]:
    site = Site(make_stage(EXAMPLE), redis)
    site.start()
    yield site
    site.close()


@pytest.fixture
def room(site: Site) -> str:
    return site.make_room()


# In browsers


def come(people: People, site: Site, name: str, room: str) -> Page:
    """Log in, and go to a room."""
    page = people.open(f"{site.url}/rooms/{room}/")
    page.fill("[name=username]", name)
    page.fill("[name=password]", PASSWORD)
    page.click("main button")
    expect(page.locator("h1")).to_have_text(room.title())
    expect(page.locator("#state")).to_have_text("")
    return page


def say(page: Page, text: str) -> None:
    page.fill("#text", text)
    page.keyboard.press("Enter")


def see(pages: list[Page], *texts: str) -> None:
    """All of them show these messages, in this order, and nothing is unsent."""
    for page in pages:
        expect(page.locator("#messages li:not(.unsent) span")).to_have_text(list(texts))
        expect(page.locator("#messages .unsent")).to_have_count(0)


@pytest.mark.browser
def test_two_people_talk(people: People, site: Site, room: str) -> None:
    pages = ann, bob = [come(people, site, name, room) for name in ("ann", "bob")]
    say(ann, "Is anybody here?")
    see(pages, "Is anybody here?")
    say(bob, "¡Sí! <b>I am</b> 🙂")
    see(pages, "Is anybody here?", "¡Sí! <b>I am</b> 🙂")
    assert site.request("POST", f"{room}/messages/", "bob", message="a view says so").status_code == 201
    said = ("Is anybody here?", "¡Sí! <b>I am</b> 🙂", "a view says so")
    see(pages, *said)
    assert site.stored(room) == [(1, "ann", said[0]), (2, "bob", said[1]), (3, "bob", said[2])]
    # Who comes later is shown what is stored.
    bob.reload()
    see(pages, *said)
    # Who misses one asks for it, as soon as the number of the next one shows that.
    site.store_untold(room, 4, "nobody was told")
    say(ann, "and now?")
    see(pages, *said, "nobody was told", "and now?")


@pytest.mark.browser
def test_nothing_is_lost_when_workers_or_the_server_restart(people: People, site: Site, room: str) -> None:
    pages = ann, bob = [come(people, site, name, room) for name in ("ann", "bob")]
    for number, how in enumerate((signal.SIGTERM, signal.SIGKILL)):
        site.worker.stop(how)
        say(ann, f"ann in break {number}")
        say(bob, f"bob in break {number}")
        for page in pages:
            expect(page.locator("#messages .unsent")).to_have_count(1)
        site.worker.start()
        for page in pages:
            expect(page.locator("#messages li")).to_have_count(2 * number + 2)
            expect(page.locator("#messages .unsent")).to_have_count(0)

    site.chat.stop()
    expect(ann.locator("#state")).to_contain_text("Not connected")
    say(ann, "without a server")
    answer = site.request("POST", f"{room}/messages/", message="nor with a view", key="k")
    assert (answer.status_code, "same key" in answer.json()["detail"]) == (503, True)
    site.chat.start()
    for page in pages:
        expect(page.locator("#messages li")).to_have_count(6)
        expect(page.locator("#messages .unsent")).to_have_count(0)
    stored = site.stored(room)
    assert [number for number, _, _ in stored] == [1, 2, 3, 4, 5, 6]
    assert sorted(stored)[4:] == [(5, "ann", "nor with a view"), (6, "ann", "without a server")]
    see(pages, *(text for _, _, text in stored))


@pytest.mark.browser
def test_somebody_signs_up_and_makes_a_room(people: People, site: Site) -> None:
    page = people.open(site.url)
    page.click("text=Sign up")
    name, label = f"user-{secrets.token_hex(4)}", secrets.token_hex(4)
    page.fill("[name=username]", name)
    for field in ("password1", "password2"):
        page.fill(f"[name={field}]", PASSWORD)
    page.click("main button")
    page.fill("[name=username]", name)
    page.fill("[name=password]", PASSWORD)
    page.click("main button")
    page.fill("[name=name]", f"Rose Garden {label}")
    page.click("text=Make a room")
    expect(page).to_have_url(f"{site.url}/rooms/rose-garden-{label}/")
    expect(page.locator("#state")).to_have_text("")
    say(page, "mine")
    see([page], "mine")
    page.click("text=Log out")
    expect(page.locator("h1")).to_have_text("Log in")


# Without a browser


class Client:
    """Somebody with a socket."""

    def __init__(self, site: Site, room: str, token: str, since: str = "") -> None:
        url = f"{site.sockets}/ws/{room}/?token={token}&since={since}"
        self._stack = ExitStack()
        self._socket: ClientConnection = self._stack.enter_context(connect(url, proxy=None, open_timeout=60))

    def hears(self) -> Any:
        return json.loads(self._socket.recv(timeout=60))

    def says(self, *frames: object) -> None:
        for frame in frames:
            self._socket.send(frame if isinstance(frame, str | bytes) else json.dumps(frame))

    def close_code(self) -> int | None:
        """When the server has closed the connection."""
        with pytest.raises(ConnectionClosed) as closed:
            self.hears()
        assert closed.value.rcvd is not None
        return closed.value.rcvd.code

    def leave(self) -> None:
        self._stack.close()


@pytest.fixture
def client(site: Site) -> Iterator[Callable[..., Client]]:
    """Opens sockets, which are closed at the end."""
    clients: list[Client] = []

    def make(room: str, token: str | None = None, since: str = "") -> Client:
        clients.append(Client(site, room, site.token(room) if token is None else token, since))
        return clients[-1]

    yield make
    for each in clients:
        each.leave()


def test_the_same_key_is_stored_once(site: Site, room: str, client: Callable[..., Client]) -> None:
    ann = client(room)
    assert ann.hears() == {"history": []}
    ann.says({"message": "hi", "key": "k1"}, {"message": "hi", "key": "k1"}, {"message": "hi", "key": "k2"})
    assert [ann.hears()["number"] for _ in range(3)] == [1, 1, 2]
    answers = [site.request("POST", f"{room}/messages/", message="hi", key="k2").json() for _ in range(2)]
    assert [answer["number"] for answer in answers] == [2, 2]
    assert site.request("POST", f"{room}/messages/", "bob", message="hi", key="k2").json()["number"] == 3
    assert site.stored(room) == [(1, "ann", "hi"), (2, "ann", "hi"), (3, "bob", "hi")]


def test_a_worker_is_killed_in_the_middle_of_an_event(site: Site, room: str, client: Callable[..., Client]) -> None:
    rooms = room, site.make_room(), site.make_room()
    clients = [client(each) for each in rooms]
    for each in clients:
        assert each.hears() == {"history": []}
    site.worker.stop()
    try:
        site.doomed_worker.start()
        for each, said in zip(clients, ("before", "with a key", "without a key"), strict=True):
            each.says({"message": said} if said == "without a key" else {"message": said, "key": "k"})
        until(lambda: len(list(site.hangs.iterdir())) == len(rooms))
        assert [len(site.stored(each)) for each in rooms] == [0, 1, 1]
    finally:
        site.doomed_worker.stop(signal.SIGKILL)
        site.worker.start()
    # Another worker runs the same events again, and each client sees what it said.
    assert [(said["number"], said["message"]) for said in (each.hears() for each in clients)] == [
        (1, "before"),
        (1, "with a key"),
        (2, "without a key"),
    ]
    assert [len(site.stored(each)) for each in rooms] == [1, 1, 2]
    for each in clients:
        each.says({"message": "and now?", "key": "k2"})
        assert each.hears()["message"] == "and now?", "and nothing of it was told twice"


def test_what_was_missed_is_told(site: Site, room: str, client: Callable[..., Client]) -> None:
    for number in range(1, 4):
        site.request("POST", f"{room}/messages/", message=f"no. {number}")
    late = client(room, since="1")
    assert [said["number"] for said in late.hears()["history"]] == [2, 3]
    late.says({"since": 2})
    assert [said["message"] for said in late.hears()["history"]] == ["no. 3"]
    listed = site.request("GET", f"{room}/messages/?before=3").json()
    assert [said["number"] for said in listed] == [1, 2]


def test_what_is_no_message_is_refused(site: Site, room: str, client: Callable[..., Client]) -> None:
    ann = client(room)
    ann.hears()
    ann.says("{", "[]", b"\x00", {"message": "x" * 4097, "key": "k"}, {"message": " ", "key": "k" * 65}, {"key": 7})
    assert [sorted(ann.hears()["errors"]) for _ in range(6)] == [
        *[["message"]] * 4,
        ["key", "message"],
        ["message"],
    ]
    assert site.stored(room) == []


def test_who_has_no_good_token_stays_out(site: Site, room: str, client: Callable[..., Client]) -> None:
    def signed(**claims: Any) -> str:
        return jwt.encode({"sub": "1", "rooms": {"read": [room], "write": [room]}} | claims, site.token_key, "HS256")

    bad = ("", "x", site.token(site.make_room()), signed(exp=1), signed(sub="ann"), signed(rooms={"read": [room]}))
    for token in bad:
        with pytest.raises(InvalidStatus) as refused:
            client(room, token)
        assert refused.value.response.status_code == 403
    with pytest.raises(InvalidStatus):
        client("nowhere", signed(rooms={"read": ["nowhere"], "write": ["nowhere"]}))
    # The others were refused for what they have, not for how they were signed.
    assert client(room, signed()).hears() == {"history": []}


def test_who_stays_longer_than_the_token_is_sent_for_another(
    site: Site, room: str, client: Callable[..., Client]
) -> None:
    for seconds in (2, 6, 18):  # on a busy machine the shorter ones are over before the consumer sees them
        expires = int(time.time()) + seconds
        claims = {"sub": "1", "exp": expires, "rooms": {"read": [room], "write": [room]}}
        with suppress(InvalidStatus):
            ann = client(room, jwt.encode(claims, site.token_key, "HS256"))
            break
    assert ann.hears() == {"history": []}
    until(lambda: time.time() > expires)
    ann.says({"message": "too late"})
    assert ann.close_code() == 4001
    assert site.stored(room) == []


def test_tokens_are_the_servers_own(site: Site, room: str) -> None:
    """The rooms of the server are closed to all others."""
    url = f"{site.sockets.replace('ws', 'http')}/chat/{room}"
    bearer = {"Authorization": f"Bearer {site.token(room)}"}
    assert httpx.get(url, headers={"Accept": "application/json"}, trust_env=False, timeout=60).status_code == 401
    assert (
        httpx.get(url, headers=bearer | {"Accept": "application/json"}, trust_env=False, timeout=60).status_code == 200
    )
    assert httpx.get(f"{url}-other", headers=bearer, trust_env=False, timeout=60).status_code == 403


@pytest.mark.parametrize("path", ["", "{room}/messages/", "{room}/token/"])
def test_who_is_not_logged_in_is_told_nothing(site: Site, room: str, path: str) -> None:
    assert httpx.get(f"{site.url}/api/rooms/{path.format(room=room)}", trust_env=False, timeout=60).status_code == 403


def test_a_program_may_use_a_password(site: Site, room: str) -> None:
    url = f"{site.url}/api/rooms/{room}/messages/"
    answers = [
        httpx.post(url, json={"message": "hi"}, auth=("ann", password), trust_env=False, timeout=60)
        for password in (PASSWORD, "another")
    ]
    assert [answer.status_code for answer in answers] == [201, 403]
    assert site.stored(room) == [(1, "ann", "hi")]
