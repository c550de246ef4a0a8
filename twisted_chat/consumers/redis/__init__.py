"""The queue of consumers in Redis: nodes put the events of their clients into it, workers run them.

Order
=====

What is to be kept: the events of a connection are run one after the other in the order in which they came, each at
least once, on any number of workers that come, go and die.

- The events of a connection are a list, its *mailbox*: what comes is pushed to the right (``enqueue.lua``), what is
  done is popped from the left (``commit.lua``). What consumers post behind it is put before a disconnect that waits
  (``post.lua``): that is always the last. Both are scripts, and nothing comes in between the steps of a script.
- A mailbox has one *token*, an entry of the stream ``ready``, while and only while it is not empty. (I)
  The push into an empty mailbox adds it. Nothing but a commit takes events away, and when that empties the mailbox it
  deletes the token; when it does not, it keeps the token or replaces it by another one.
- A token is delivered to one worker of the consumer group, which from then on is its *holder* until another one claims
  it, or the token is deleted: that is what a stream's list of pending entries is.
- The worker runs the *first* event of the mailbox, and takes it away when that is done, by a commit that does nothing
  unless the worker is still the holder, and takes nothing unless that event is still the first.

So the event that is run is always the oldest that is not done, and it is done before the next one is begun by anybody
who can finish it: by (I) there is one token, so one holder, so one worker whose commit counts. A worker that dies is
silent about its tokens; after `worker.DEAD` seconds another one claims them (XAUTOCLAIM) and runs the first event
again. A worker that was only slow finds at its commit that it is not the holder any more, and gives up.

Its effects are not doubled, although its code has run twice: they are published under keys made of the event's name,
and the relay stores each key once (``delivery.py``). Effects come before the commit, so none is lost: whoever dies
between the two leaves an event that is run again.

An event that takes its workers down
====================================

A worker that claims a token counts that against the first event of the mailbox (``claim.lua``), for its holder is
silent and may have died of it. It may as well have died of another event that it held. So from the second time on
(`aside.ALONE`) a worker runs such events one at a time, and says before that it begins (``begin.lua``): only who has
begun is counted then. At the third (`aside.ATTEMPTS`) the event is copied to a list (``aside.lua``), and taken away by
a commit like any other: what comes behind it goes on. A worker that gives tokens back takes back that it began
(``release.lua``), and one that lives although it was taken for dead takes back what was counted (``keep.lua``).

What consumers post
===================

An event that a consumer makes is posted once for each key (``post.lua``). One for later waits in a sorted set, ordered
by the time when it is due (``delay.lua``). Every worker looks whether something is, and moves it into a mailbox of its
own (``due.lua``, one step): it is in the one place or in the other, whoever dies. Its run is that it is posted.

Into the queue
==============

Events are numbered by the node. ``enqueue.lua`` keeps the number of the next one of each connection, and takes an event
only under that number: what a node sends again, because an answer was lost with its link, is taken once. A connection
that is not in that table has ended, and nothing of it is taken.

A node says every few seconds that it lives. When it has not for long enough, a worker or another node takes its
connections out of the table and pushes a disconnect for each (``bury.lua``, one step each, which a node that lives
again stops). A node that comes back compares its sockets with the table, and ends those that were given up.

Bounds: `queue.QueueLimits`. At them the node reads nothing more from its clients. How many events there are is known
from the lists and a counter, how many bytes from a hash (``bytes.lua``).
"""
