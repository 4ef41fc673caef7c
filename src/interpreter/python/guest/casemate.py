"""What a run can do besides computing: call other tools, ask the gate for HTTP, show things."""


def _install(driver):
    import json, sys, types
    from inspect import Parameter, Signature

    ask, display, show_figures, _, _ = driver

    package = types.ModuleType("casemate", "What a run can do besides computing: tools, http, display.")
    package.__path__ = []
    package.display = display

    # -- tools ---------------------------------------------------------------------------------------------

    class ToolError(RuntimeError):
        """A tool could not be called, or failed. `reason` is the stable name of the cause."""

        def __init__(self, message, reason=""):
            super().__init__(message)
            self.reason = reason

    ToolError.__module__, ToolError.__qualname__ = "casemate", "ToolError"
    package.ToolError = ToolError
    KINDS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "array": "list",
             "object": "dict", "null": "None"}

    def annotation(schema):
        kind = schema.get("type") if isinstance(schema, dict) else None
        kinds = kind if isinstance(kind, list) else [kind]
        return " | ".join(KINDS.get(one, "object") for one in kinds)

    def make(tool):
        name, schema = tool["name"], tool.get("input_schema") or {}
        properties, required = schema.get("properties") or {}, set(schema.get("required") or ())
        order = sorted(properties, key=lambda key: key not in required)
        names = [key for key in order if key.isidentifier()]

        def function(*args, **params):
            if len(args) > len(names):
                raise TypeError(f"{name}() takes at most {len(names)} positional arguments, got {len(args)}")
            for key, value in zip(names, args):
                if key in params:
                    raise TypeError(f"{name}() got {key!r} twice")
                params[key] = value
            head, body = ask({"m": "tool", "name": name}, json.dumps(params).encode())
            if "error" in head:
                raise ToolError(head["error"], head.get("reason", ""))
            return json.loads(body) if head.get("json") else body.decode("utf-8", "replace")

        function.__name__ = function.__qualname__ = name
        function.__module__ = "casemate.tools"
        parameters = [Parameter(key, Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation(properties[key]),
                                default=Parameter.empty if key in required else properties[key].get("default"))
                      for key in names]
        function.__signature__ = Signature(parameters)
        lines = [tool.get("description") or "No description.", ""]
        for key in order:
            about = properties[key].get("description", "") if isinstance(properties[key], dict) else ""
            lines.append(f"    {key} ({annotation(properties[key])}{'' if key in required else ', optional'}): {about}")
        function.__doc__ = "\n".join(lines).rstrip()
        return function

    class Tools(types.ModuleType):
        """Registered tools as functions: tools.NAME(param=value). dir(tools) lists them, help(tools.NAME) explains."""

        def _load(self):
            head, _ = ask({"m": "tools"})
            made = {tool["name"].replace("-", "_"): make(tool) for tool in head["tools"]}
            self.__dict__.update(made)
            self.__dict__["__all__"] = sorted(made)
            self.__dict__["__doc__"] = type(self).__doc__ + "\n\n" + "\n".join(
                f"{key}{made[key].__signature__}: {made[key].__doc__.splitlines()[0]}" for key in sorted(made))
            return made

        def __getattr__(self, name):
            if name.startswith("__") and name != "__all__":
                raise AttributeError(name)
            made = self._load()
            if name == "__all__":
                return sorted(made)
            if name in made:
                return made[name]
            raise AttributeError(f"there is no tool {name!r}; there are: {', '.join(sorted(made)) or 'none'}")

        def __dir__(self):
            return sorted(self._load())

    package.tools = Tools("casemate.tools", Tools.__doc__)

    # -- http ----------------------------------------------------------------------------------------------

    http = types.ModuleType("casemate.http", "HTTP through the gate, in the manner of `requests`.")

    class HTTPError(OSError):
        """A request was refused by the gate or failed, or raise_for_status() met an error status."""

        def __init__(self, message, reason="", response=None):
            super().__init__(message)
            self.reason, self.response = reason, response

    class Response:
        """What came back: status_code, headers, content, text, json(), ok, url."""

        def __init__(self, head, content):
            self.status_code = head.get("status", 0)
            self.headers = dict(head.get("headers") or {})
            self.url = head.get("url", "")
            self.content = content

        ok = property(lambda self: self.status_code < 400)
        text = property(lambda self: self.content.decode(self.encoding, "replace"))
        encoding = "utf-8"

        def json(self):
            return json.loads(self.content)

        def raise_for_status(self):
            if not self.ok:
                raise HTTPError(f"status {self.status_code} for {self.url}", response=self)

        def __repr__(self):
            return f"<Response [{self.status_code}]>"

    def request(method, url, *, params=None, data=None, json=None, headers=None, timeout=None):
        import json as codec
        from urllib.parse import urlencode
        headers = dict(headers or {})
        if params:
            url += ("&" if "?" in url else "?") + urlencode(params, doseq=True)
        if json is not None:
            data = codec.dumps(json).encode()
            headers.setdefault("Content-Type", "application/json")
        elif isinstance(data, dict):
            data = urlencode(data, doseq=True).encode()
            headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
        elif isinstance(data, str):
            data = data.encode()
        head, body = ask({"m": "http", "method": method.upper(), "url": url, "headers": headers,
                          "timeout": timeout}, data or b"")
        if "error" in head:
            raise HTTPError(head["error"], head.get("reason", ""))
        return Response(head, body)

    def verb(method):
        def call(url, **options):
            return request(method, url, **options)
        call.__name__ = call.__qualname__ = method.lower()
        call.__doc__ = f"Sends a {method} request through the gate; see request()."
        return call

    for kind in (HTTPError, Response):
        kind.__module__, kind.__qualname__ = "casemate.http", kind.__name__
    http.request, http.Response, http.HTTPError = request, Response, HTTPError
    http.RequestException = HTTPError
    for name in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"):
        setattr(http, name.lower(), verb(name))
    package.http = http

    # -- log and progress ----------------------------------------------------------------------------------

    def log(message, level="info"):
        """Writes a log line of the execution: level is trace, debug, info, warn or error."""
        ask({"m": "log", "level": level}, str(message).encode("utf-8", "replace"))

    def progress(message="", current=0, total=0, detail=None):
        """Tells how far the run is; whoever watches sees it at once."""
        ask({"m": "progress", "message": str(message), "current": current, "total": total, "detail": detail})

    package.log, package.progress = log, progress
    package.__all__ = ["tools", "http", "display", "log", "progress", "ToolError"]
    sys.modules["casemate"] = package
    sys.modules["casemate.tools"] = package.tools
    sys.modules["casemate.http"] = http
    # Code written for `requests` runs as it is.
    sys.modules["requests"] = http

    import urllib.request

    def urlopen(url, data=None, timeout=None, **_):
        import io
        target = url if isinstance(url, str) else url.full_url
        headers = {} if isinstance(url, str) else dict(url.header_items())
        method = ("POST" if data else "GET") if isinstance(url, str) else url.get_method()
        response = request(method, target, data=data, headers=headers, timeout=timeout)
        stream = io.BytesIO(response.content)
        stream.status = stream.code = response.status_code
        stream.headers, stream.url = response.headers, response.url
        return stream

    urllib.request.urlopen = urlopen

    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.show = show_figures


_install(_casemate)
del _install
