"""The same echo as a consumer that takes a thread, and as a coroutine."""

from twisted_chat.consumers import route


def echo(message):
    message.reply_channel.send({"text": message["text"]})


async def echo_coroutine(message):
    message.reply_channel.send({"text": message["text"]})


threads = [route("websocket.receive", echo)]
coroutines = [route("websocket.receive", echo_coroutine)]
