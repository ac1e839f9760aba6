"""What a provider can do wrong: each fault is a function of one exchange, and has a name."""

import asyncio
import gzip
import json

from bench.fault_wall.provider import Exchange, Fault
from bench.fault_wall.shapes import (
    answer,
    begin_tokens,
    chunk,
    completion,
    encoded,
    error,
    finish,
    send_rest,
    send_stop,
    send_tokens,
)

CUT_AFTER = 40
"""Tokens that a broken stream delivers, of sixty."""
_STALL_AFTER = 20
_FIRST = '{"choices": [{"index": 0, "delta": {"con'
EMOJI = "\N{WAVING HAND SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-4} "
"""Text of eight bytes and a blank, which `split-utf8` cuts anywhere."""
PREFILL_REFUSAL = "This model does not support assistant message prefill."
FILTER_REASON = "The response was filtered due to the prompt triggering content management policy."


async def throttled(exchange: Exchange, retry_after: str) -> None:
    """Answers 429, with `Retry-After` where the name has one."""
    headers = {"retry-after": retry_after.replace("_", " ")} if retry_after else {}
    await exchange.whole(429, error("Rate limit reached.", "rate_limit_exceeded"), headers)


async def failing(exchange: Exchange, status: str) -> None:
    """Answers with a status."""
    await exchange.whole(int(status), error("Something is wrong on our side.", None))


async def down(exchange: Exchange, seconds: str) -> None:
    """Answers 503: for so long after the name was first asked for, or for ever."""
    began_at = exchange.provider.began_at[exchange.asked.model]
    if seconds and asyncio.get_running_loop().time() - began_at >= float(seconds):
        await answer(exchange)
    else:
        await failing(exchange, "503")


async def reset(exchange: Exchange, _: str) -> None:
    """Resets the connection before any header."""
    await exchange.reset()


async def hang_up(exchange: Exchange, _: str) -> None:
    """Closes the connection before any header."""
    await exchange.cut()


async def leave_quietly(exchange: Exchange, _: str) -> None:
    """Answers properly and half closes a connection that it let its caller keep."""
    await answer(exchange)
    await exchange.half_close()


async def mute(exchange: Exchange, _: str) -> None:
    """Never answers."""
    await exchange.silence()


async def late(exchange: Exchange, seconds: str) -> None:
    """Sends headers at once, and the first token after so long."""
    if exchange.streamed:
        await exchange.begin()
    await exchange.silence(float(seconds))
    await send_rest(exchange, exchange.provider.tokens)


async def late_after_role(exchange: Exchange, seconds: str) -> None:
    """Sends headers and the delta with the role at once, and the first token after so long."""
    if exchange.streamed:
        await begin_tokens(exchange, ())
    await exchange.silence(float(seconds))
    await send_rest(exchange, exchange.provider.tokens)


def cut_off(how: str) -> Fault:
    """Breaks in mid-answer: by `cut`, `reset` or `half_close` of the exchange."""

    async def fault(exchange: Exchange, _: str) -> None:
        if exchange.streamed:
            await begin_tokens(exchange, exchange.provider.tokens[:CUT_AFTER])
        else:
            body = encoded(completion(exchange))
            exchange.asked.said = "200"
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
            await exchange.write(head + b"content-length: %d\r\n\r\n" % len(body) + body[:40])
        await getattr(exchange, how)()

    return fault


async def stall(exchange: Exchange, seconds: str) -> None:
    """Goes silent for so long after twenty tokens."""
    tokens = exchange.provider.tokens
    if exchange.streamed:
        await begin_tokens(exchange, tokens[:_STALL_AFTER])
    await exchange.silence(float(seconds))
    await send_rest(exchange, tokens[_STALL_AFTER:])


def garbled(after: int) -> Fault:
    """Sends one event that is not JSON after so many tokens; a whole answer is cut JSON."""

    async def fault(exchange: Exchange, _: str) -> None:
        if not exchange.streamed:
            await exchange.whole(200, _FIRST.encode())
            return
        tokens = exchange.provider.tokens
        await begin_tokens(exchange, tokens[:after])
        await exchange.send(f"data: {_FIRST}\n\n".encode())
        await send_tokens(exchange, tokens[after:])
        await finish(exchange)

    return fault


async def no_done(exchange: Exchange, ending: str) -> None:
    """Finishes without `[DONE]`; with `open` the body does not end, with `cut` it ends badly."""
    if not exchange.streamed:
        await answer(exchange)
        return
    await begin_tokens(exchange, exchange.provider.tokens)
    await send_stop(exchange)
    if ending == "open":
        await exchange.silence()
    elif ending == "cut":
        await exchange.cut()
    else:
        await exchange.end()


async def cut_after_done(exchange: Exchange, how: str) -> None:
    """Answers properly up to `[DONE]`, and closes or resets instead of ending the body."""
    if not exchange.streamed:
        await answer(exchange)
        return
    await begin_tokens(exchange, exchange.provider.tokens)
    await send_stop(exchange)
    await exchange.send(b"data: [DONE]\n\n")
    await (exchange.reset if how == "reset" else exchange.cut)()


async def unfinished(exchange: Exchange, _: str) -> None:
    """Says `[DONE]` after forty tokens, and never a finish reason."""
    if not exchange.streamed:
        await answer(exchange)
        return
    await begin_tokens(exchange, exchange.provider.tokens[:CUT_AFTER])
    await exchange.send(b"data: [DONE]\n\n")
    await exchange.end()


async def too_long(exchange: Exchange, _: str) -> None:
    """Refuses the prompt for its length, as OpenAI does."""
    message = "This model's maximum context length is 100 tokens."
    await exchange.whole(400, error(message, "context_length_exceeded", param="messages"))


async def filtered(exchange: Exchange, _: str) -> None:
    """Refuses the prompt for its content, as Azure does."""
    await exchange.whole(400, error(FILTER_REASON, "content_filter", param="prompt"))


async def no_prefill(exchange: Exchange, _: str) -> None:
    """Answers, but refuses to go on with somebody's half answer."""
    if exchange.asked.body["messages"][-1]["role"] == "assistant":
        await exchange.whole(400, error(PREFILL_REFUSAL, None))
    else:
        await answer(exchange)


async def error_body(exchange: Exchange, after: str) -> None:
    """Says 200 and then that it failed: whole, or in the stream after so many tokens."""
    body = error("The server had an error.", "server_error")
    if not exchange.streamed:
        await exchange.whole(200, body)
        return
    await begin_tokens(exchange, exchange.provider.tokens[: int(after or 0)])
    await exchange.send(b"data: " + body + b"\n\n")
    await exchange.end()


async def gzipped(exchange: Exchange, _: str) -> None:
    """Compresses, although nobody asked for it."""
    headers = {"content-encoding": "gzip"}
    if not exchange.streamed:
        await exchange.whole(200, gzip.compress(encoded(completion(exchange))), headers)
        return
    events = [chunk(exchange, {"content": token}) for token in exchange.provider.tokens]
    events.append(chunk(exchange, {}, "stop"))
    lines = b"".join(b"data: " + encoded(event) + b"\n\n" for event in events)
    await exchange.begin(headers)
    await exchange.send(gzip.compress(lines + b"data: [DONE]\n\n"))
    await exchange.end()


async def split_utf8(exchange: Exchange, _: str) -> None:
    """Sends every byte of an answer of emoji in a chunk of its own."""
    text = EMOJI * 4
    if not exchange.streamed:
        await exchange.whole(200, encoded(completion(exchange, text)))
        return
    event = json.dumps(chunk(exchange, {"content": text}), ensure_ascii=False)
    await exchange.begin()
    for byte in f"data: {event}\n\n".encode():
        await exchange.send(bytes([byte]))
    await finish(exchange)


async def huge(exchange: Exchange, mebibytes: str) -> None:
    """Sends all text in one delta of so many MiB, and so in one line."""
    text = "x" * (int(mebibytes) * 1024 * 1024)
    if not exchange.streamed:
        await exchange.whole(200, encoded(completion(exchange, text)))
        return
    await begin_tokens(exchange, [text])
    await finish(exchange)


async def flood(exchange: Exchange, mebibytes: str) -> None:
    """Sends so many MiB as fast as the caller takes them, in deltas of 4 KiB."""
    exchange.token_seconds = 0.0
    await exchange.begin()
    await send_tokens(exchange, ["x" * 4096] * (int(mebibytes) * 256))
    await finish(exchange)


def once(fault: Fault) -> Fault:
    """Does so the first time a name is asked for; answers properly from then on."""

    async def at_first(exchange: Exchange, argument: str) -> None:
        await (fault if exchange.asked.number == 1 else answer)(exchange, argument)

    return at_first


FAULTS: dict[str, Fault] = {
    "": answer,
    "throttled": throttled,
    "failing": failing,
    "down": down,
    "reset": reset,
    "hangs-up": hang_up,
    "leaves-quietly": leave_quietly,
    "mute": mute,
    "late": late,
    "late-after-role": late_after_role,
    "cut": cut_off("cut"),
    "cut-by-reset": cut_off("reset"),
    "half-closed": cut_off("half_close"),
    "stalls": stall,
    "garbled": garbled(after=30),
    "garbled-first": garbled(after=0),
    "no-done": no_done,
    "cut-after-done": cut_after_done,
    "unfinished": unfinished,
    "too-long": too_long,
    "filtered": filtered,
    "no-prefill": no_prefill,
    "error-body": error_body,
    "gzip": gzipped,
    "split-utf8": split_utf8,
    "huge": huge,
    "flood": flood,
}
"""Name in the model's name → what is done."""
FAULTS |= {f"{name}-once": once(fault) for name, fault in FAULTS.items() if name}
