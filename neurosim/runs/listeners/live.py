"""The live view of a run: a page on this machine alone, which draws its numbers as they come."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

from rich.console import Console

from neurosim.base import ConfigurationError, number
from neurosim.learning import Listener, events
from neurosim.records import read_lines
from neurosim.reports import render

if TYPE_CHECKING:
    from starlette.applications import Starlette

LOOPBACK = "127.0.0.1"
MOST = 400  # points of a curve, an even number
SECONDS = 3.0  # that the end of a run waits for the server at most
CHARTS = {  # the numbers of metrics.jsonl that are drawn, by the event that they are of
    "Accuracy": {
        "step": ["accuracy"],
        "epoch": ["test_accuracy", "validation_accuracy", "cumulative_accuracy"],
    },
    "Loss": {"step": ["loss"], "epoch": ["test_loss", "validation_loss"]},
    "sMAPE": {"epoch": ["smape"]},
    "Messages": {"epoch": ["mean_messages", "difference_messages"]},
    "Wakes": {"epoch": ["wakes"]},
    "Per right answer": {"epoch": ["messages_per_right", "wakes_per_right"]},
}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",  # the page's own says the rest
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class _Curve:
    """Keeps points of a curve, at most `MOST` and the last one: every 2ⁿ-th of all.

    Each is the mean of the values up to there, of which one from k earlier has the weight
    ``fading``ᵏ.
    """

    def __init__(self, fading: float) -> None:
        self._kept: list[tuple[float, float]] = []
        self._every, self._seen = 1, 0
        self._fading, self._weight, self._last = fading, 0.0, (0.0, 0.0)

    def add(self, x: float, y: float) -> None:
        before, mean = self._last
        self._weight = 1.0 + self._fading ** max(1.0, x - before) * self._weight
        part = 1.0 / self._weight
        self._last = x, mean * (1.0 - part) + y * part
        if self._seen % self._every == 0:
            self._kept.append(self._last)
            if len(self._kept) == MOST:
                del self._kept[1::2]
                self._every *= 2
        self._seen += 1

    @property
    def points(self) -> list[tuple[float, float]]:
        return [*self._kept, *([self._last] if self._kept[-1] != self._last else [])]


class LiveView(Listener):
    """Keeps what the page draws. It changes nothing, and is no part of checkpoints."""

    def __init__(self) -> None:
        self._lock = Lock()  # the server reads in a thread of its own
        self._curves: dict[tuple[str, str], _Curve] = {}
        self._about: dict[str, Any] = {"name": "", "status": "starting"}
        self._fading = 0.0

    def follow(self, name: str, metrics: Path, fading: float = 0.0) -> None:
        """Takes the name of a run, and what it recorded before it goes on. The scores of steps are
        drawn as means that fade, see `StreamPlan`: that of a single sample is right or wrong."""
        self._about["name"], self._fading = name, fading
        with metrics.open("rb") as file:
            for _, record in read_lines(file):
                self._take(record)

    def on_start(self, event: events.StartEvent) -> None:
        self._say(event, status="running", steps=event.steps)

    def on_step(self, event: events.StepEvent) -> None:
        # Of a mean that fades each step is a part, logged or not.
        self._say(event)
        self._take((replace(event, logged=True) if self._fading else event).record())

    def on_epoch(self, event: events.EpochEvent) -> None:
        self._say(event)
        self._take(event.record())

    def on_end(self, event: events.EndEvent) -> None:
        self._say(event, status=event.status)

    def _say(self, event: events.TrainingEvent, **more: Any) -> None:
        with self._lock:
            self._about |= {"epoch": event.epoch, "step": event.step, **more}

    def _take(self, record: Mapping[str, Any] | None) -> None:
        step = number((record or {}).get("step"))
        if record is None or step is None:
            return
        kind = str(record.get("event"))
        fading = self._fading if kind == "step" else 0.0
        with self._lock:
            for chart, keys in CHARTS.items():
                for key in keys.get(kind, ()):
                    if (value := number(record.get(key))) is not None:
                        place = chart, f"faded_{key}" if fading else key
                        self._curves.setdefault(place, _Curve(fading)).add(step, value)

    def data(self) -> dict[str, Any]:
        """Returns what the page draws: name, status, epoch and step, and the points of every curve
        as (step, value) by chart and key."""
        with self._lock:
            charts: dict[str, dict[str, Any]] = {title: {} for title in CHARTS}
            for (chart, key), curve in self._curves.items():
                charts[chart][key] = curve.points
            return self._about | {"charts": charts}

    def app(self) -> "Starlette":
        """Returns what answers: the page and its data, to GET alone, and under the names of this
        machine alone (another site's name may be made to lead here)."""
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.middleware.trustedhost import TrustedHostMiddleware
        from starlette.requests import Request
        from starlette.responses import HTMLResponse, JSONResponse, Response
        from starlette.routing import Route

        def page(request: Request) -> Response:
            html = render("live.html", name=self._about["name"] or "run")
            return HTMLResponse(html, headers=HEADERS)

        def data(request: Request) -> Response:
            return JSONResponse(self.data(), headers=HEADERS)

        hosts = Middleware(
            TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"], www_redirect=False
        )
        return Starlette(routes=[Route("/", page), Route("/data", data)], middleware=[hosts])


@contextmanager
def live_view(port: int | None) -> Iterator[LiveView | None]:
    """Serves a live view on a port of this machine (0: a free one) for as long as the block runs,
    and says where; None serves nothing.

    Raises:
        ConfigurationError: for a port that cannot be had, or without the extra ``live``.
    """
    if port is None:
        yield None
        return
    try:
        import starlette  # noqa: F401
        from uvicorn import Config, Server
    except ImportError:
        said = "the live view needs packages: pip install 'neurosim[live]'"
        raise ConfigurationError(said, "live") from None
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < 2**16:
        said = f"a port is a number from 1 to 65535, or 0 for a free one, not {port!r}"
        raise ConfigurationError(said, "live")
    with ExitStack() as stack:
        try:
            listening = stack.enter_context(socket.create_server((LOOPBACK, port)))
        except OSError as error:
            why = os.strerror(error.errno or 0)
            said = f"cannot serve on port {port} ({why}); name another, or 0 for any that is free"
            raise ConfigurationError(said, "live") from None
        view = LiveView()
        server = Server(
            Config(
                view.app(),
                http="h11",
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=1,
            )
        )
        thread = Thread(target=server.run, args=([listening],), name="live view", daemon=True)
        thread.start()
        # However quiet a run is: who asked for the page has to find it.
        url = f"http://{LOOPBACK}:{listening.getsockname()[1]}/"
        Console(stderr=True, highlight=False).print(f"live view  {url}", soft_wrap=True)
        try:
            yield view
        finally:
            server.should_exit = True
            thread.join(SECONDS)
