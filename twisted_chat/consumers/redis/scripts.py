"""The scripts of the queue; their files say what they do."""

from __future__ import annotations

from typing import Final

from twisted_chat.relay.redis.scripts import HEARTBEAT, Script

ENQUEUE: Final = Script("enqueue.lua", __package__, after="bytes.lua")
POST: Final = Script("post.lua", __package__, after="bytes.lua")
DELAY: Final = Script("delay.lua", __package__)
DUE: Final = Script("due.lua", __package__, after="bytes.lua")
COMMIT: Final = Script("commit.lua", __package__, after="bytes.lua")
RELEASE: Final = Script("release.lua", __package__, after="attempts.lua")
KEEP: Final = Script("keep.lua", __package__, after="attempts.lua")
CLAIM: Final = Script("claim.lua", __package__, after="attempts.lua")
BEGIN: Final = Script("begin.lua", __package__, after="attempts.lua")
ASIDE: Final = Script("aside.lua", __package__, after="attempts.lua")
BACK: Final = Script("back.lua", __package__, after="bytes.lua")
BURY: Final = Script("bury.lua", __package__, after="bytes.lua")
FORGET: Final = Script("forget.lua", __package__)
PROBE: Final = Script("probe.lua", __package__)
SCRIPTS: Final = (
    *(ENQUEUE, POST, DELAY, DUE, COMMIT, RELEASE, KEEP, CLAIM, BEGIN, ASIDE, BACK, BURY, FORGET, PROBE),
    HEARTBEAT,
)
