"""Runs turns: one piece of code each, in `__main__`, as the host asks. Frozen into every image.

The host is asked through `_host.call(bytes) -> bytes`. Both ways a message is one line of JSON, a newline,
and raw bytes. What user code does to modules it shares with this one must not break a turn, so everything
needed is bound here once.
"""


def _install():
    import ast, builtins, inspect, io, json, linecache, os, re, sys, traceback, types
    import _host, _reactor

    host_call = _host.call
    dumps, loads = json.dumps, json.loads
    # Text may hold halves of characters, which JSON can spell and its readers refuse.
    spell = json.JSONEncoder(ensure_ascii=False).encode
    compile_, exec_, eval_, isinstance_, len_, type_, str_, repr_ = (
        compile, exec, eval, isinstance, len, type, str, repr)
    FileIO, BufferedReader, BufferedWriter, TextIOWrapper = (
        io.FileIO, io.BufferedReader, io.BufferedWriter, io.TextIOWrapper)
    main = sys.modules["__main__"].__dict__
    environ, urandom = os.environ, os.urandom
    settrace, setprofile = sys.settrace, sys.setprofile
    ONLY_AST = ast.PyCF_ONLY_AST
    AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    MAX_MESSAGE = 16 << 10
    MAX_REQUEST = 16 << 20
    MAX_FORM = 3 << 20
    MAX_TRACEBACK = 64 << 10
    MAX_TEXT = 256 << 10

    def ask(header, payload=b""):
        request = spell(header).encode("utf-8", "replace") + b"\n" + payload
        if len_(request) > MAX_REQUEST:
            raise ValueError(f"one message to the host has at most {MAX_REQUEST} bytes, this one has {len_(request)}")
        answer = host_call(request)
        if answer is None:
            raise RuntimeError("the host did not answer")
        head, _, body = answer.partition(b"\n")
        return loads(head), body

    # The first line of most answers: not worth parsing again and again.
    KNOWN = {}

    def go():
        """What to run: the rest of the first line, the name, the code."""
        head, _, rest = host_call(b'{"m":"go"}\n').partition(b"\n")
        known = KNOWN.get(head)
        if known is None:
            known = loads(head)
            if len_(KNOWN) < 16:
                KNOWN[head] = known
        name, _, code = rest.partition(b"\n")
        return known, name.decode(), code

    # -- streams -------------------------------------------------------------------------------------------

    class Input(FileIO):
        """Standard input, which knows whether anybody read from it."""
        used = False

        def readinto(self, buffer):
            Input.used = True
            return FileIO.readinto(self, buffer)

        def readall(self):
            Input.used = True
            return FileIO.readall(self)

        def read(self, size=-1):
            Input.used = True
            return FileIO.read(self, size)

    def open_input():
        stream = TextIOWrapper(BufferedReader(Input(0, "rb", closefd=False)), encoding="utf-8",
                               errors="surrogateescape")
        stream.mode = "r"
        return stream

    def open_output(fd, errors):
        # By lines, as on a terminal: whoever follows sees what is said when it is said.
        stream = TextIOWrapper(BufferedWriter(FileIO(fd, "wb", closefd=False)), encoding="utf-8", errors=errors,
                               line_buffering=True)
        stream.mode = "w"
        return stream

    streams = [None, None, None]

    def open_streams():
        """The streams of a turn: those of the turn before, as long as they are as they were."""
        stdin, stdout, stderr = streams
        if stdin is None or stdin.closed or Input.used:
            # What an earlier turn left unread is not this one's.
            Input.used = False
            stdin = open_input()
        if stdout is None or stdout.closed:
            stdout = open_output(1, "surrogateescape")
        if stderr is None or stderr.closed:
            stderr = open_output(2, "backslashreplace")
        streams[:] = stdin, stdout, stderr
        sys.stdin = sys.__stdin__ = stdin
        sys.stdout = sys.__stdout__ = stdout
        sys.stderr = sys.__stderr__ = stderr
        return streams

    def flush(*streams):
        for stream in streams:
            try:
                stream.flush()
            except BaseException:
                pass

    # -- rich outputs --------------------------------------------------------------------------------------

    def as_bytes(content):
        return content.encode("utf-8", "replace") if isinstance_(content, str_) else bytes(content)

    def send_rich(kind, forms, metadata=None):
        # What is too large to be kept is told by its size: it need not travel, and may be too large for that.
        told, parts, room = [], [], MAX_FORM
        for mime, content in forms:
            size = len_(content)
            if size > room:
                told.append({"mime": mime, "size": size, "omitted": True})
                continue
            room -= size
            told.append({"mime": mime, "size": size})
            parts.append(content)
        header = {"m": "rich", "kind": kind, "forms": told}
        if metadata:
            header["metadata"] = metadata
        ask(header, b"".join(parts))

    def text_of(value):
        try:
            text = repr_(value)
        except Exception as problem:
            text = f"<{type_(value).__name__} whose repr() raised {type_(problem).__name__}>"
        if len_(text) > MAX_TEXT:
            text = text[:MAX_TEXT] + f"... ({len_(text)} characters)"
        return text

    def plain(value, depth=0):
        kind = type_(value)
        if value is None or kind in (bool, int, float, str_):
            return True
        if depth > 32:
            return False
        if kind in (list, tuple):
            return len_(value) <= 100_000 and all(plain(item, depth + 1) for item in value)
        if kind is dict:
            return len_(value) <= 100_000 and all(
                type_(key) is str_ and plain(item, depth + 1) for key, item in value.items())
        return False

    def json_of(value):
        """The value as JSON, if it is JSON; numpy's scalars and arrays count by their own account."""
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance_(value, (numpy.ndarray, numpy.generic)):
            if getattr(value, "size", 1) > 100_000:
                return None
            value = value.tolist()
        if not plain(value):
            return None
        try:
            text = dumps(value, allow_nan=False, ensure_ascii=False)
        except (ValueError, TypeError, RecursionError):
            return None
        return text

    METHODS = (("text/html", "_repr_html_"), ("image/svg+xml", "_repr_svg_"), ("image/png", "_repr_png_"),
               ("image/jpeg", "_repr_jpeg_"), ("text/markdown", "_repr_markdown_"),
               ("text/latex", "_repr_latex_"), ("application/json", "_repr_json_"))

    def figure_type():
        module = sys.modules.get("matplotlib.figure")
        return getattr(module, "Figure", ())

    def forms_of(value):
        forms = {}
        figure = figure_type()
        if figure and isinstance_(value, figure):
            forms["image/png"] = png_of(value)
        bundle = getattr(type_(value), "_repr_mimebundle_", None)
        if bundle is not None:
            try:
                data = bundle(value)
                data = data[0] if isinstance_(data, tuple) else data
                for mime, content in dict(data or {}).items():
                    forms.setdefault(str_(mime), dumps(content).encode() if mime.endswith("json") else as_bytes(content))
            except Exception:
                pass
        for mime, method in METHODS:
            method = getattr(type_(value), method, None)
            if mime in forms or method is None:
                continue
            try:
                content = method(value)
                if isinstance_(content, tuple):
                    content = content[0]
                if content is not None:
                    forms[mime] = dumps(content).encode() if mime.endswith("json") else as_bytes(content)
            except Exception:
                # A form that cannot be made is left out; the text is always there.
                pass
        if "application/json" not in forms:
            text = json_of(value)
            if text is not None:
                forms["application/json"] = text.encode("utf-8", "replace")
        forms.pop("text/plain", None)
        rich = list(forms.items())
        rich.append(("text/plain", text_of(value).encode("utf-8", "replace")))
        return rich

    def png_of(figure):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", bbox_inches="tight")
        return buffer.getvalue()

    def show_figures(*_, **__):
        """Every open figure becomes a rich output, and is closed."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is None:
            return
        for number in pyplot.get_fignums():
            figure = pyplot.figure(number)
            send_rich("display", [("image/png", png_of(figure)), ("text/plain", text_of(figure).encode())])
        pyplot.close("all")

    def display(*values, **forms):
        """Shows values as rich outputs: tables as HTML, figures as images, anything by its `_repr_*_` methods.

        With keywords, shows one output in the forms given: display(html="<b>x</b>", text="x"),
        display(png=data).
        """
        if forms:
            names = {"html": "text/html", "svg": "image/svg+xml", "png": "image/png", "jpeg": "image/jpeg",
                     "markdown": "text/markdown", "latex": "text/latex", "json": "application/json",
                     "text": "text/plain"}
            unknown = set(forms) - set(names)
            if unknown:
                raise TypeError(f"display() takes {', '.join(names)}; got {', '.join(sorted(unknown))}")
            text = forms.pop("text", None)
            parts = [(names[name], dumps(content).encode() if name == "json" else as_bytes(content))
                     for name, content in forms.items()]
            if text is not None:
                parts.append(("text/plain", as_bytes(text)))
            send_rich("display", parts)
        for value in values:
            figure = figure_type()
            send_rich("display", forms_of(value))
            if figure and isinstance_(value, figure):
                # Shown once, not once more at the end of the turn.
                sys.modules["matplotlib.pyplot"].close(value)

    # -- exceptions ----------------------------------------------------------------------------------------

    def own(frame):
        return frame.filename.startswith(("<casemate ", "<reactor>", "<frozen "))

    def is_users(filename):
        return filename == "<code>" or filename.startswith("<turn ") or filename.startswith(("/work/", "/tmp/"))

    def without_us(summary):
        """Frames of this file are none of the user's business."""
        seen = set()
        todo = [summary]
        while todo:
            one = todo.pop()
            if one is None or id(one) in seen:
                continue
            seen.add(id(one))
            if one.stack:
                kept = [frame for frame in one.stack if not own(frame)]
                one.stack[:] = kept
            todo += [one.__cause__, one.__context__, *(one.exceptions or ())]
        return summary

    def report(problem, stderr):
        try:
            explain(problem, stderr)
        except BaseException:
            # An exception whose own methods raise, or modules that the code has changed under us.
            name = type_(problem).__name__
            text = f"{name}: <the exception cannot be shown>\n"
            try:
                stderr.write(text)
            except BaseException:
                pass
            ask({"m": "exception", "type": name, "message": "<the message cannot be shown>"}, text.encode())

    def explain(problem, stderr):
        if isinstance_(problem, SyntaxError) and problem.text is None and problem.filename in linecache.cache:
            # Found after parsing: the compiler had a tree, not the text.
            problem.text = linecache.getline(problem.filename, problem.lineno or 0) or None
        summary = without_us(traceback.TracebackException.from_exception(problem, capture_locals=False, compact=True))
        text = "".join(summary.format())
        if len_(text) > MAX_TRACEBACK:
            half = MAX_TRACEBACK // 2 - 20
            text = text[:half] + "\n... (cut) ...\n" + text[-half:]
        frames = [{
            "file": frame.filename, "line": frame.lineno or 0,
            "column": (frame.colno or 0) + 1 if frame.colno is not None else 0,
            "function": "" if frame.name == "<module>" else frame.name, "source": (frame.line or "")[:1000],
        } for frame in summary.stack if is_users(frame.filename)][-64:]
        kind = type_(problem)
        if isinstance_(problem, SyntaxError) and problem.filename and is_users(problem.filename):
            frames = [{"file": problem.filename, "line": problem.lineno or 0, "column": problem.offset or 0,
                       "function": "", "source": (problem.text or "").rstrip("\n")[:1000]}]
        module = kind.__module__
        name = kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__qualname__}"
        try:
            message = str_(problem)
        except BaseException:
            message = "<the message cannot be shown>"
        try:
            stderr.write(text)
        except Exception:
            pass
        header = {"m": "exception", "type": name, "message": message[:MAX_MESSAGE], "frames": frames}
        ask(header, text.encode("utf-8", "backslashreplace"))

    def exit_code(problem, stderr):
        code = problem.code
        if code is None:
            return 0
        if isinstance_(code, int):
            return code & 0xFF
        stderr.write(f"{code}\n")
        return 1

    # -- a turn --------------------------------------------------------------------------------------------

    def reseed(pristine=False):
        """Fresh randomness for generators with a state; `pristine` when nobody used them since the freeze."""
        modules = sys.modules
        random = modules.get("random")
        if random is not None:
            random.seed(int.from_bytes(urandom(32)))
        nprandom = modules.get("numpy.random")
        if nprandom is not None:
            generator = modules["numpy.random.mtrand"]._rand._bit_generator
            if pristine and hasattr(generator, "_legacy_seeding"):
                # A fiftieth of the cost of `seed()`: one word, and a start somewhere in its sequence.
                word = urandom(6)
                generator._legacy_seeding(int.from_bytes(word[:4]))
                generator.random_raw(int.from_bytes(word[4:]) & 1023, False)
            else:
                words = modules["numpy"].frombuffer(urandom(2496), "u4")
                nprandom.set_state(("MT19937", words, 624))
        tempfile = sys.modules.get("tempfile")
        if tempfile is not None:
            tempfile._name_sequence = None
        uuid = sys.modules.get("uuid")
        if uuid is not None:
            uuid._node = uuid._last_timestamp = None

    # One line that is surely no expression: an assignment or an import.
    is_statement = re.compile(r"(?:[A-Za-z_][\w.]*[ \t]*(?:[-+*/%&|^@]|//|\*\*|<<|>>)?=(?!=)|(?:import|from|del)[ \t])").match

    def run_line(source, name):
        """Compiled code of a single line, and whether it has a value; nothing when it takes more than a look."""
        if len_(source) > 200 or "\n" in source or ";" in source or source[:1] in " \t\f#":
            return None, False
        if is_statement(source):
            return compile_(source, name, "exec", AWAIT, dont_inherit=True), False
        try:
            return compile_(source, name, "eval", AWAIT, dont_inherit=True), True
        except SyntaxError:
            return None, False

    def run_code(source, name):
        linecache.cache[name] = (len_(source), None, source.splitlines(True), name)
        # A tree of objects costs several times the rest of compiling: not for one line.
        code, has_value = run_line(source, name)
        if code is not None:
            value = run_part(code, has_value)
            return value if has_value else None
        # Not inherited: this file's own flags must not leak into the user's code.
        tree = compile_(source, name, "exec", ONLY_AST | AWAIT, dont_inherit=True)
        last = None
        if tree.body and isinstance_(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)
        value = None
        if tree.body:
            value = run_part(compile_(tree, name, "exec", AWAIT, dont_inherit=True), None)
        if last is None:
            return None
        return run_part(compile_(last, name, "eval", AWAIT, dont_inherit=True), True)

    def run_part(code, wanted):
        if code.co_flags & inspect.CO_COROUTINE:
            import asyncio
            return asyncio.run(types.FunctionType(code, main)())
        return eval_(code, main)

    def turn():
        head, name, code = go()
        stdin, stdout, stderr = open_streams()
        sys.argv = ["main.py", *head["argv"]]
        if head["reseed"]:
            reseed(head["pristine"])
        before = None
        env = head["env"]
        if env:
            before = {key: environ.get(key) for key in env}
            environ.update(env)
        status = 0
        try:
            try:
                try:
                    # As a file of Python may begin.
                    source = code.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
                except UnicodeDecodeError as problem:
                    raise SyntaxError(f"the code is not UTF-8: {problem}", (name, 1, 1, None)) from None
                try:
                    value = run_code(source, name)
                finally:
                    # A trace function of the code's would go on in here. One that raises is dropped for it.
                    try:
                        setprofile(None)
                    except BaseException:
                        setprofile(None)
                    settrace(None)
                if value is not None:
                    builtins._ = value
                    send_rich("value", forms_of(value))
                show_figures()
            except SystemExit as problem:
                status = exit_code(problem, stderr)
            except BaseException as problem:
                status = 1
                sys.last_exc = problem
                report(problem, stderr)
        finally:
            sys.settrace(None)
            sys.setprofile(None)
            flush(sys.stdout, stdout, sys.stderr, stderr)
            if before is not None:
                for key, value in before.items():
                    if value is None:
                        environ.pop(key, None)
                    else:
                        environ[key] = value
        host_call(b'{"m":"end","code":%d}\n' % status)

    def run_turn(_text, _name):
        turn()

    def leave(code=None):
        """Ends the run with this exit code."""
        raise SystemExit(code)

    def set_up(_environ):
        # Arguments and variables come with each turn, and seeds when they are due.
        pass

    # `turn` of the artifact calls these by name. Its own way of setting up a first turn is not needed.
    _reactor._run_turn = run_turn
    _reactor._setup = set_up
    leave.__name__ = leave.__qualname__ = "exit"
    builtins.exit = builtins.quit = leave

    builtins.display = display
    return ask, display, show_figures, turn, reseed


_casemate = _install()
del _install
