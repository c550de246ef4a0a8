"""The same resources by Twisted's own site and by ours, over TLS. http2_site.py PORT PEM stock|ours"""

import sys
from pathlib import Path

from twisted.internet import endpoints, reactor, ssl
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data


class Upload(Resource):
    isLeaf = True

    def render_POST(self, request):
        return b"%d" % len(request.content.read())


def site(root, which):
    if which == "stock":
        return Site(root)
    # Not there where the other one runs.
    from twisted_chat.server.http.limits import HttpLimits
    from twisted_chat.server.http.switch import ChatSite

    # Four bodies of 512 KiB at once on a connection, which is what these limits are made to refuse.
    most = {f"unfinished_bytes{per}": 64 << 20 for per in ("", "_per_address", "_per_connection")}
    return ChatSite(root, reactor=reactor, limits=HttpLimits(body_bytes=1 << 20, **most))


def main(port, pem, which):
    root = Resource()
    root.putChild(b"small", Data(b"x" * 100, "text/plain"))
    root.putChild(b"large", Data(b"x" * (1 << 20), "application/octet-stream"))
    root.putChild(b"upload", Upload())
    certificate = ssl.PrivateCertificate.loadPEM(Path(pem).read_bytes())
    endpoint = endpoints.SSL4ServerEndpoint(reactor, int(port), certificate.options(), interface="127.0.0.1")
    endpoint.listen(site(root, which))
    reactor.run()


main(*sys.argv[1:])
