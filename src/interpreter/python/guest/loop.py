"""An event loop for asyncio that needs no sockets: the stock one wants a pair of them to wake itself."""


def _install():
    import asyncio, selectors, time
    from asyncio import events, runners, selector_events

    class Clock(selectors.BaseSelector):
        """Waits for time to pass, which is all there is to wait for."""

        def __init__(self):
            self._map = {}

        def register(self, fileobj, events, data=None):
            raise OSError("there are no sockets in this sandbox, so asyncio cannot wait for one")

        def unregister(self, fileobj):
            raise KeyError(fileobj)

        def select(self, timeout=None):
            if timeout is None:
                raise RuntimeError("the event loop would wait forever: every task waits for another one")
            if timeout > 0:
                time.sleep(timeout)
            return []

        def get_map(self):
            return self._map

        def close(self):
            pass

    class Loop(selector_events.BaseSelectorEventLoop):
        def __init__(self, selector=None):
            super().__init__(Clock())

        def _make_self_pipe(self):
            self._ssock = self._csock = None

        def _close_self_pipe(self):
            pass

        def _write_to_self(self):
            pass

        def run_in_executor(self, executor, func, *args):
            # No threads: what would run beside the loop runs now, and its future is done.
            future = self.create_future()
            try:
                future.set_result(func(*args))
            except Exception as problem:
                future.set_exception(problem)
            return future

        async def shutdown_default_executor(self, timeout=None):
            pass

    base = getattr(events, "_BaseDefaultEventLoopPolicy", None) or getattr(events, "BaseDefaultEventLoopPolicy")

    class Policy(base):
        _loop_factory = Loop

    events._event_loop_policy = Policy()
    asyncio.SelectorEventLoop = asyncio.EventLoop = Loop
    asyncio.new_event_loop = events.new_event_loop = lambda: Loop()
    runners.events.new_event_loop = events.new_event_loop


_install()
del _install
