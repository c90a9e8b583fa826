"""The HTTP face of the live page: the page itself, JSON, and a stream of events."""

import asyncio
import json
import secrets
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from dualpath_ray.base.errors import ConfigError, DualPathError
from dualpath_ray.ui.access import Access, bearer
from dualpath_ray.ui.feed import Feed, Watched
from dualpath_ray.ui.page import REPORT_POLICY, content_policy, live_page
from dualpath_ray.ui.past_runs import past_runs, report_of
from dualpath_ray.ui.view import DUAL_PATH, SINGLE_PATH
from dualpath_ray.ui.watch import Watch

_LOOK_S = 0.1  # how often a stream looks for something new
_BEAT_S = 5.0  # after so long without news a stream says that it is there
_START_S = 30.0
_MOST_READERS = 100
_STREAMED, _MOST = 60, 200  # decisions at once, and that may be asked for
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Page:
    """The handlers. ``watch`` is told who looks."""

    def __init__(self, system: Watched, feed: Feed, access: Access, runs: Path, look: Callable[[int], None]) -> None:
        self._system, self._feed, self._access, self._runs, self._look = system, feed, access, runs, look
        self._cookie = f"dualpath_page_{secrets.token_hex(4)}"  # cookies of a host are shared by all of its ports
        self._closing = asyncio.Event()
        self._readers = 0

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard], client_max_size=4096)
        app.add_routes(
            [
                web.get("/", self._page),
                web.get("/api/status", self._status),
                web.get("/api/decisions", self._decisions),
                web.get("/api/events", self._events, allow_head=False),
                web.post("/api/read-path", self._read_path),
                web.get("/api/runs", self._past_runs),
                web.get("/api/runs/{name}/report", self._report),
            ]
        )
        app.on_shutdown.append(self._close)
        return app

    async def _close(self, _: web.Application) -> None:
        self._closing.set()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Nobody gets further who may not; every answer says how it may be used."""
        response = await self._checked(request, handler)
        if not response.prepared:
            response.headers.setdefault("Cache-Control", "no-store")
            response.headers.setdefault("X-Content-Type-Options", "nosniff")
            response.headers.setdefault("Referrer-Policy", "no-referrer")
        return response

    async def _checked(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        access = self._access
        if not access.accepts_host(request.headers.get("Host")):
            return _says(403, "open this page by the name localhost or the address 127.0.0.1")
        told = request.query.get("token")
        token = told or bearer(request.headers.get("Authorization")) or request.cookies.get(self._cookie)
        if not access.knows(token):
            return _says(401, "this page needs its token: open the address that `dualpath ui` prints")
        if told is not None and request.path == "/":  # out of the address, which gets copied and logged
            answer = web.Response(status=303, headers={"Location": "/"})
            answer.set_cookie(self._cookie, told, httponly=True, samesite="Lax")
            return answer
        if request.method not in ("GET", "HEAD") and not access.may_change(request.headers):
            return _says(403, "changes are made by the page itself, or by a program that sends its header")
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _says(error.status, error.reason)

    async def _page(self, _: web.Request) -> web.Response:
        nonce = secrets.token_urlsafe(16)
        headers = {"Content-Security-Policy": content_policy(nonce), "X-Frame-Options": "DENY"}
        return web.Response(text=live_page(nonce), content_type="text/html", headers=headers)

    async def _status(self, _: web.Request) -> web.Response:
        status, problem = self._feed.status()
        return web.json_response(status) if problem is None else _says(503, problem)

    async def _decisions(self, request: web.Request) -> web.Response:
        since = request.query.get("since", "0")
        if not since.isdecimal():
            return _says(400, "since: write the number of a decision")
        return web.json_response(self._feed.decisions(int(since), _MOST))

    async def _read_path(self, request: web.Request) -> web.Response:
        try:
            wanted = json.loads(await request.read())["read_path"]
        except (ValueError, TypeError, KeyError):
            wanted = None
        if wanted not in (SINGLE_PATH, DUAL_PATH):
            return _says(400, f'read_path: write {{"read_path": "{SINGLE_PATH}"}} or "{DUAL_PATH}"')
        try:
            await asyncio.to_thread(self._system.set_read_path, wanted)
        except DualPathError as error:
            return _says(503, str(error))
        return web.json_response({"read_path": wanted})

    async def _past_runs(self, _: web.Request) -> web.Response:
        return web.json_response(await asyncio.to_thread(past_runs, self._runs))

    async def _report(self, request: web.Request) -> web.Response:
        path = await asyncio.to_thread(report_of, self._runs, request.match_info["name"])
        if path is None:
            return _says(404, "there is no such report")
        text = await asyncio.to_thread(path.read_text, "utf-8")
        return web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": REPORT_POLICY})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """``history`` once, then ``view`` and ``decisions`` as they come, until the reader goes."""
        if self._readers >= _MOST_READERS:
            return _says(503, f"{_MOST_READERS} readers look at this page already")
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        stream.headers["Cache-Control"] = "no-store"
        self._readers += 1
        self._look(1)
        try:
            await stream.prepare(request)
            await self._tell(stream)
        except ConnectionResetError:
            pass  # the reader has gone
        finally:
            self._look(-1)
            self._readers -= 1
        return stream

    async def _tell(self, stream: web.StreamResponse) -> None:
        feed, version, seq, silent_s, first = self._feed, -1, 0, 0.0, True
        await _send(stream, "history", feed.points())
        while not self._closing.is_set():
            if feed.version != version:
                version, silent_s = feed.version, 0.0
                await _send(stream, "view", feed.view())
                latest = feed.last_seq
                afresh = first or latest < seq  # what the reader remembers may be another system's
                rows = feed.decisions(0 if afresh else seq, _STREAMED)
                if rows or afresh:
                    await _send(stream, "decisions", {"rows": rows, "afresh": afresh})
                first, seq = False, rows[-1]["seq"] if rows else latest
            elif silent_s > _BEAT_S:
                silent_s = 0.0
                await _send(stream, "beat", {})
            await asyncio.sleep(_LOOK_S)
            silent_s += _LOOK_S


async def _send(stream: web.StreamResponse, event: str, data: Any) -> None:
    await stream.write(f"event: {event}\ndata: {json.dumps(data)}\n\n".encode())


def _says(status: int, sentence: str) -> web.Response:
    return web.json_response({"error": sentence}, status=status)


class PageServer:
    """Serves the page of a system from a thread of this process, until ``stop``."""

    def __init__(
        self, system: Watched, feed: Feed, access: Access, port: int, runs: Path, setting: str = "ui.port"
    ) -> None:
        """Args: port: 0 takes a free one. Raises: ConfigError naming it, and the setting, when it cannot be had."""
        self._watch = Watch(system, feed)
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self.port = 0
        self._thread = threading.Thread(target=self._loop.run_forever, name="page", daemon=True)
        self._thread.start()
        try:
            self._wait(self._start(system, feed, access, port, runs))
        except OSError as error:
            self.stop()
            raise ConfigError(
                f"{setting}: {access.host}:{port} cannot be listened on ({error.strerror or error}); name another one"
            ) from error

    async def _start(self, system: Watched, feed: Feed, access: Access, port: int, runs: Path) -> None:
        app = Page(system, feed, access, runs, self._watch.look).app()
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, access.host, port).start()
        self.port = int(self._runner.addresses[0][1])

    def stop(self) -> None:
        """Whoever looks is let go."""
        if self._runner is not None:
            self._wait(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_S)
        self._watch.stop()

    def _wait(self, what: Any) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(_START_S)
