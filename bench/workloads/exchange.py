"""`python -m bench.workloads.exchange`: a websocket server that sends prepared frames as fast as its client reads.

It prints its port, and `began <UTC seconds>` when it sends the first frame. With `--paced` each frame is sent at its
recorded time, and the times at which frames were handed to the socket are written to `--sent`.
"""

import argparse
import base64
import hashlib
import json
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Final

from bench.workloads.frames import SYMBOLS, load, numbered

_MAGIC: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CHUNK: Final = 1 << 16
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10
_LIST: Final = json.dumps(
    {
        "symbols": [
            {"symbol": symbol, "status": "TRADING", "baseAsset": symbol.removesuffix("USDT"), "quoteAsset": "USDT"}
            for symbol in SYMBOLS
        ]
    }
).encode()


def encode_frame(payload: bytes, opcode: int = _TEXT) -> bytes:
    """Encode a payload as an unmasked websocket frame."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    return struct.pack("!BBH", 0x80 | opcode, 126, size) + payload


class Exchange:
    """Send the frames to every client that connects."""

    def __init__(self, frames: list[tuple[float, str, int, bytes]], *, paced: bool, sent: Path | None) -> None:
        self._frames = frames
        self._paced = paced
        self._sent = sent
        self._chunks = [] if paced else _chunks([frame for *_, frame in frames])

    def serve(self, client: socket.socket) -> None:
        """Serve one connection until it closes."""
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with client, client.makefile("rb") as stream:
            path, headers = _request(stream)
            key = headers.get("sec-websocket-key")
            if key is None:
                body = _LIST if path.startswith("/api/v3/exchangeInfo") else b"[]"
                head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
                client.sendall(head + body)
                return
            accept = base64.b64encode(hashlib.sha1(key.encode() + _MAGIC, usedforsecurity=False).digest())
            client.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            if "streams=" in path:
                threading.Thread(target=self._send, args=(client,), daemon=True).start()
            while message := _message(stream):
                opcode, payload = message
                if opcode == _TEXT:
                    client.sendall(encode_frame(b'{"result":null,"id":%d}' % json.loads(payload)["id"]))
                    threading.Thread(target=self._send, args=(client,), daemon=True).start()
                elif opcode == _CLOSE:
                    client.sendall(encode_frame(payload, _CLOSE))
                    return

    def _send(self, client: socket.socket) -> None:
        print(f"began {time.time():.6f}", flush=True)
        for chunk in self._chunks:
            client.sendall(chunk)
        if self._paced:
            self._pace(client)
        print("sent", flush=True)

    def _pace(self, client: socket.socket) -> None:
        started_at, sent, place = time.monotonic(), [], 0
        while place < len(self._frames):
            at = self._frames[place][0] - (time.monotonic() - started_at)
            if at > 0:
                time.sleep(at)
            elapsed, first = time.monotonic() - started_at, place
            while place < len(self._frames) and self._frames[place][0] <= elapsed:
                place += 1
            due = self._frames[first:place]
            now = time.time_ns()
            client.sendall(b"".join(encode_frame(frame) for *_, frame in due))
            sent += [(symbol, number, now) for _, symbol, number, _ in due]
        if self._sent is not None:
            self._sent.write_text(json.dumps(sent), "utf-8")


def _chunks(frames: list[bytes]) -> list[bytes]:
    chunks, chunk = [], bytearray()
    for frame in frames:
        chunk += encode_frame(frame)
        if len(chunk) >= _CHUNK:
            chunks.append(bytes(chunk))
            chunk.clear()
    return [*chunks, bytes(chunk)]


def _request(stream: object) -> tuple[str, dict[str, str]]:
    line = stream.readline().decode()  # type: ignore[attr-defined]
    headers = {}
    while header := stream.readline().decode().strip():  # type: ignore[attr-defined]
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    return line.split()[1] if line else "", headers


def _message(stream: object) -> tuple[int, bytes] | None:
    """Return opcode and payload of the client's next masked frame; None at the end of the stream."""
    try:
        head = stream.read(2)  # type: ignore[attr-defined]
        if len(head) < 2:
            return None
        size = head[1] & 0x7F
        if size == 126:
            size = struct.unpack("!H", stream.read(2))[0]  # type: ignore[attr-defined]
        mask, payload = stream.read(4), stream.read(size)  # type: ignore[attr-defined]
    except OSError:
        return None
    return head[0] & 0x0F, bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def main() -> int:
    """Serve until the process is killed."""
    parser = argparse.ArgumentParser(prog="bench.workloads.exchange")
    parser.add_argument("--count", type=int, default=0, help="number of frames; 0: the recording or its burst, once")
    parser.add_argument(
        "--paced", type=float, default=0.0, help="send only the busiest N seconds, at their recorded pace"
    )
    parser.add_argument("--aggregated", action="store_true")
    parser.add_argument("--sent", type=Path)
    parser.add_argument("--lead", type=float, default=0.0, help="seconds of the recording before the burst")
    arguments = parser.parse_args()
    recording = load().busiest(arguments.paced, arguments.lead) if arguments.paced else load()
    frames = list(numbered(recording, arguments.count or len(recording.trades), aggregated=arguments.aggregated))
    exchange = Exchange(frames, paced=bool(arguments.paced), sent=arguments.sent)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(f"port {listener.getsockname()[1]}", flush=True)
        while True:
            client, _ = listener.accept()
            threading.Thread(target=exchange.serve, args=(client,), daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
