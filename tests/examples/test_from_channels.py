"""docs/from-channels.rst: its snippets as a project that runs, and its page in a browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Error, Page, Route, expect
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.browser.conftest import People
from tests.examples.conftest import Stage

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "from-channels.rst"
PAGE = ROOT / "tests" / "foreign" / "channels_page.html"
SCRIPTS = ("jquery/dist/jquery.min.js", "reconnectingwebsocket/reconnecting-websocket.min.js")

COUNT_SOCKETS = """
window.opened = 0;
window.WebSocket = class extends WebSocket {
  constructor(...given) {
    super(...given);
    this.addEventListener("open", () => { window.opened += 1; });
  }
};
"""
"""How the test knows that the page is connected: the page itself shows nothing of it."""

SETTINGS = """
SECRET_KEY = "x" * 50
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3", "OPTIONS": {"timeout": 60}}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
"""
WHO = """
import datetime

from chat.routing import channel_routing as others
from chat.users import ws_connect, ws_receive
from twisted_chat.consumers import (
    JsonWebsocketConsumer,
    WebsocketConsumer,
    WebsocketDemultiplexer,
    http_session_user,
    route,
    route_class,
)

@http_session_user
def visited(message):
    message.http_session["visited"] = True
    message.reply_channel.send({"text": message.user.get_username()})

class Who(WebsocketConsumer):
    http_user = True

    async def connect(self, message):
        self.send("class " + message.user.get_username())

    def receive(self, text):
        self.send("still " + self.message.user.get_username())

class Both(WebsocketConsumer):
    http_user_and_session = True

    def receive(self, text):
        self.message.http_session["text"] = text
        self.send(self.message.user.get_username())

class Stream(JsonWebsocketConsumer):
    channel_session_user = True

    def receive(self, content, multiplexer, **kwargs):
        multiplexer.send({"user": self.message.user.get_username(), "at": datetime.date(2026, 1, 2)})

class Streams(WebsocketDemultiplexer):
    http_user = True
    consumers = {"who": Stream}

channel_routing = [
    route_class(Streams, path="^/streams/"),
    route_class(Both, path="^/both/"),
    route("websocket.connect", ws_connect, path="^/who/"),
    route("websocket.receive", ws_receive, path="^/who/"),
    route("websocket.connect", visited, path="^/visited/"),
    route_class(Who, path="^/class/"),
    *others,
]
"""
SET_UP = """
import django
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from chat.models import Room
call_command("migrate", run_syncdb=True, verbosity=0)
for label in ("lobby", "kitchen"):
    Room.objects.create(label=label)
client = Client()
client.force_login(User.objects.create_user("ann"))
print(client.cookies["sessionid"].value)
"""


def snippets() -> list[str]:
    """The Python of the guide."""
    blocks, lines = [], iter(GUIDE.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line == ".. code-block:: python":
            block = []
            for inner in lines:
                if inner and not inner.startswith("   "):
                    break
                block.append(inner[3:])
            blocks.append("\n".join(block).strip("\n") + "\n")
    return blocks


def snippet(*containing: str, without: str = "\0") -> str:
    """The one with all of these in it."""
    [found] = [text for text in snippets() if all(each in text for each in containing) and without not in text]
    return found


def code(text: str) -> list[str]:
    """Without what a change of imports changes."""
    return [line for line in text.splitlines() if line and not line.startswith(("from channels", "from twisted_chat"))]


@pytest.mark.parametrize(
    "containing", ["def ws_connect(message):\n    prefix", "include(chat_routing", "@channel_session_user_from_http"]
)
def test_only_imports_change(containing: str) -> None:
    before = snippet(containing, "from channels")
    after = snippet(containing, "from twisted_chat")
    assert code(before) == code(after)
    assert "from channels" not in after


class Project:
    """The guide's project. `filtered` is the port where the routing has filters, `plain` that of the dictionary."""

    def __init__(self, stage: Stage) -> None:
        self.directory = stage.example
        self._environ = {"DJANGO_SETTINGS_MODULE": "settings"}
        self._stage = stage
        settings: dict[str, Any] = {}
        exec(snippet("CHANNEL_LAYERS"), settings)
        apps = [name for name in settings["INSTALLED_APPS"] if name != "channels"]
        for name, text in {
            "settings.py": f"{SETTINGS}INSTALLED_APPS = {apps}\n",
            "chat/__init__.py": "",
            "chat/models.py": snippet("class Message"),
            "chat/consumers.py": snippet("def ws_connect(message):\n    prefix", "from twisted_chat"),
            "chat/users.py": snippet("@channel_session_user_from_http", "from twisted_chat"),
            "chat/routing.py": snippet("include(chat_routing", "from twisted_chat"),
            "chat/plain_routing.py": snippet("channel_routing = {"),
            "who.py": WHO,
            "api-keys": "0123456789abcdef0123456789abcdef\n",
        }.items():
            path = self.directory / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        (self.directory / "api-keys").chmod(0o600)
        self.session = self._set_up()
        self.filtered, self.plain = stage.port(), stage.port()
        servers = [
            stage.twistd(
                *(f"server-{port}", "chat", "-p", f"tcp:{port}:interface=127.0.0.1", "--relay", "memory:"),
                *("--routing", f"{routing}:channel_routing", "--drain", "1", "--api-key-file", "api-keys"),
                ready="open http",
                **self._environ,
            )
            for port, routing in (
                (self.filtered, "who"),
                (self.plain, "chat.plain_routing"),
            )
        ]
        for server in servers:
            server.begin()
        for server in servers:
            server.wait()

    def _set_up(self) -> str:
        """Makes the database; the session of ann."""
        return self.run(SET_UP)

    def stored(self) -> list[list[str]]:
        question = "import django; django.setup(); import json; from chat.models import Message;"
        rows = 'Message.objects.order_by("id").values_list("room__label", "handle", "message")'
        found: list[list[str]] = json.loads(self.run(f"{question} print(json.dumps(list({rows})))"))
        return found

    def run(self, script: str) -> str:
        """What Python says that is in the project's directory."""
        ended = subprocess.run(
            [sys.executable, "-c", script],
            cwd=self.directory,
            env=self._stage.environment(**self._environ),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip()


@pytest.fixture(scope="module")
def project(make_stage: Callable[[Path], Stage], tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(make_stage(tmp_path_factory.mktemp("project")))


@pytest.fixture
def client() -> Iterator[Callable[..., ClientConnection]]:
    """Opens sockets, which are closed at the end."""
    with ExitStack() as stack:

        def client(port: int, path: str, **headers: str) -> ClientConnection:
            url = f"ws://127.0.0.1:{port}{path}"
            made: ClientConnection = stack.enter_context(
                connect(url, proxy=None, additional_headers=headers, open_timeout=60)
            )
            return made

        yield client


def test_the_consumers_store_and_tell(project: Project, client: Callable[..., ClientConnection]) -> None:
    ann, bob = (client(project.filtered, "/chat/kitchen/") for _ in range(2))
    ann.send(json.dumps({"handle": "ann", "message": "¡hola!"}))
    for each in (ann, bob):
        said = json.loads(each.recv(timeout=60))
        assert (said["handle"], said["message"], set(said)) == ("ann", "¡hola!", {"handle", "message", "timestamp"})
    assert ["kitchen", "ann", "¡hola!"] in project.stored()


def test_a_view_sends(project: Project, client: Callable[..., ClientConnection]) -> None:
    ann = client(project.filtered, "/chat/lobby/")
    settings = snippet("send_through(").replace("127.0.0.1:8080", f"127.0.0.1:{project.filtered}")
    project.run(f"{settings}\n{snippet('def announce')}\nannounce('lobby', '¡hola! from a view')")
    assert ann.recv(timeout=60) == "¡hola! from a view"


def test_users_are_those_of_django(project: Project, client: Callable[..., ClientConnection]) -> None:
    cookie = f"a=b; sessionid={project.session}"
    who = client(project.filtered, "/who/", Cookie=cookie)
    who.send("who am I?")
    assert who.recv(timeout=60) == "ann"
    who = client(project.filtered, "/class/", Cookie=cookie)
    who.send("and now?")
    assert [who.recv(timeout=60) for _ in range(2)] == ["class ann", "still ann"]
    who = client(project.filtered, "/streams/", Cookie=cookie)
    who.send(json.dumps({"stream": "who", "payload": {}}))
    answer = {"stream": "who", "payload": {"user": "ann", "at": "2026-01-02"}}
    assert json.loads(who.recv(timeout=60)) == answer
    for cookie in ("sessionid=nonsense", "a=b"):
        with pytest.raises(InvalidStatus) as refused:
            client(project.filtered, "/who/", Cookie=cookie)
        assert refused.value.response.status_code == 403


def test_what_a_consumer_keeps_in_djangos_session_is_there(
    project: Project, client: Callable[..., ClientConnection]
) -> None:
    cookie = f"sessionid={project.session}"
    assert client(project.filtered, "/visited/", Cookie=cookie).recv(timeout=60) == "ann"
    both = client(project.filtered, "/both/", Cookie=cookie)
    both.send("said later")
    assert both.recv(timeout=60) == "ann"
    # It is saved when the consumer has returned, and what that sends is sent after that.
    asked = "import django; django.setup(); from django.contrib.sessions.models import Session;"
    kept = project.run(f"{asked} kept = Session.objects.get().get_decoded(); print(kept['visited'], kept['text'])")
    assert kept == "True said later"


def visit(people: People, project: Project) -> Page:
    """The page of the guides, as if Django had served it on the host of the sockets."""
    url = f"http://127.0.0.1:{project.plain}/lobby/"
    # To Chromium a page that the test gives it comes from nowhere, and one from nowhere must be let to 127.0.0.1.
    try:
        context = people.context(permissions=["local-network-access"])
    except Error:  # an older one, that does not ask
        context = people.context()
    context.route(url, lambda route: route.fulfill(path=PAGE, content_type="text/html"))
    for script in SCRIPTS:
        context.route(f"**/static/js/{Path(script).name}", fulfill(ROOT / "node_modules" / script))
    context.add_init_script(COUNT_SOCKETS)
    page = people.open(url, context=context)
    page.wait_for_function("() => window.opened === 1")
    return page


def fulfill(script: Path) -> Callable[[Route], None]:
    return lambda route: route.fulfill(path=script, content_type="text/javascript")


@pytest.mark.browser
def test_the_page_of_the_guides(people: People, project: Project) -> None:
    if not all((ROOT / "node_modules" / script).exists() for script in SCRIPTS):
        if os.environ.get("TESTS_REQUIRE_BROWSER") == "1":
            pytest.fail("run npm install: the scripts of the page are not there")
        pytest.skip("run npm install")
    pages = ann, bob = [visit(people, project) for _ in range(2)]
    for page, name in ((ann, "ann"), (bob, "bob")):
        page.fill("#handle", name)
        page.fill("#message", f"I am {name}")
        page.click("#go")
        for each in pages:
            expect(each.locator("#chat tr").last).to_contain_text(f"I am {name}")
    assert [row[1:] for row in project.stored() if row[0] == "lobby"] == [["ann", "I am ann"], ["bob", "I am bob"]]
