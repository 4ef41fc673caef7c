//! What is outside of the sandbox is out of reach, and what cannot work says so.

use crate::kit::{self, code, limited};
use casemate::proto::v1;

#[tokio::test]
async fn nothing_of_the_host_can_be_read_or_written() {
    let Some(python) = kit::start().await else { return };
    let secret = python.server.path().join("secret.txt");
    std::fs::write(&secret, "the secret of the host").unwrap();
    let text = format!(
        r#"
import os
secret = {secret:?}
tries = [secret, "../" * 12 + secret.lstrip("/"), "/work/../.." + secret, "/tmp/.." + secret, "/./" + secret,
         "/etc/passwd", "/proc/self/environ", "/proc/1/root" + secret, "/dev/mem", "/sys/kernel", "//" + secret,
         "/work/./../etc/passwd", "..", "../..", secret + "\0", b"/etc/passwd\xff"]
os.makedirs("a/b")
links = [secret, "/etc", "../../..", "/proc/self/root", "../" * 40 + secret.lstrip("/"), "loop1", "."]
for index, target in enumerate(links):
    os.symlink(target, f"link{{index}}")
    tries += [f"link{{index}}", f"link{{index}}/passwd", f"link{{index}}" + secret, f"link{{index}}/etc/passwd"]
os.symlink("loop2", "loop1")
os.symlink("loop1", "loop2")
opened = []
for path in tries:
    for mode in ("rb", "r+b", "wb"):
        try:
            with open(path, mode) as f:
                if mode == "rb":
                    opened.append((path, f.read(100)))
        except (OSError, ValueError):
            pass
    for look in (os.listdir, os.stat, os.readlink):
        try:
            found = look(path)
            if "secret" in str(found):
                assert path.startswith("link"), (path, found)
        except (OSError, ValueError):
            pass
    for change in (os.unlink, os.rmdir, lambda p: os.rename(p, "/work/stolen"), lambda p: os.link(p, "/work/linked"),
                   lambda p: os.mkdir(p + "/x" if isinstance(p, str) else p)):
        try:
            change(path)
        except (OSError, ValueError, TypeError):
            pass
assert not any(b"secret" in data or b"root:" in data for _, data in opened), opened
here = set()
for directory in ("/", "/usr", "/work", "/tmp"):
    here |= {{os.path.join(directory, name) for name in os.listdir(directory)}}
assert not any(name.startswith(("/etc", "/proc", "/home", "/root", "/dev", "/sys")) for name in here), here
print("kept in")
"#
    );
    assert_eq!(python.run(&text).await.fine(), "kept in\n");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "the secret of the host");
    let session = python.session().await;
    assert_eq!(python.turn(&session, &text).await.fine(), "kept in\n");
}

#[tokio::test]
async fn the_library_can_be_read_and_not_written() {
    let Some(python) = kit::start().await else { return };
    let text = r#"
import os
library = "/usr/local/lib/python315.zip"
with open(library, "rb") as f:
    assert f.read(2) == b"PK"
for go in (lambda: open(library, "r+b"), lambda: open(library, "ab"), lambda: os.unlink(library),
           lambda: os.truncate(library, 0), lambda: os.rename(library, "/work/x"),
           lambda: os.mkdir("/usr/x"), lambda: open("/new", "w"), lambda: os.link(library, "/work/y"),
           lambda: os.rename("/work", "/usr/local/work"), lambda: os.rmdir("/usr")):
    try:
        go()
    except OSError:
        continue
    raise AssertionError("it worked")
import matplotlib
assert os.path.exists(os.path.join(matplotlib.get_data_path(), "matplotlibrc"))
print("read only")
"#;
    assert_eq!(python.run(text).await.fine(), "read only\n");
}

#[tokio::test]
async fn what_cannot_work_says_what_to_use_instead() {
    let Some(python) = kit::start().await else { return };
    // Code, and words that the sentence must have.
    let cases = [
        ("import socket; socket.socket()", "casemate import http"),
        ("import socket; socket.create_connection(('example.com', 80))", "casemate import http"),
        ("import socket; socket.getaddrinfo('example.com', 80)", "casemate import http"),
        ("import asyncio; await asyncio.open_connection('example.com', 80)", "casemate import http"),
        ("import http.client; http.client.HTTPConnection('example.com').request('GET', '/')", "casemate import http"),
        ("import http.client; http.client.HTTPSConnection('example.com')", "casemate import http"),
        ("import ssl", "casemate import http"),
        ("import subprocess; subprocess.run(['ls'])", "a tool in a container"),
        ("import subprocess; subprocess.check_output('ls', shell=True)", "a tool in a container"),
        ("import os; os.system('ls')", "a tool in a container"),
        ("import os; os.popen('ls')", "a tool in a container"),
        ("import os; os.fork()", "a tool in a container"),
        ("import os; os.execv('/bin/ls', ['ls'])", "a tool in a container"),
        ("import os; os.kill(1, 9)", "a tool in a container"),
        ("import asyncio; await asyncio.create_subprocess_exec('ls')", "a tool in a container"),
        ("import asyncio; await asyncio.create_subprocess_shell('ls')", "a tool in a container"),
        ("import multiprocessing; multiprocessing.Process(target=print).start()", "a tool in a container"),
        ("import multiprocessing; multiprocessing.Pool(2)", "a tool in a container"),
        ("import threading; threading.Thread(target=print).start()", "asyncio"),
        ("import _thread; _thread.start_new_thread(print, ())", "asyncio"),
        ("from concurrent.futures import ThreadPoolExecutor\nThreadPoolExecutor().submit(print)", "asyncio"),
        ("from casemate import http\nhttp.get('https://example.com')", "gate"),
        ("import requests\nrequests.get('https://example.com')", "gate"),
        ("import urllib.request\nurllib.request.urlopen('https://example.com')", "gate"),
    ];
    for (text, words) in cases {
        let run = python.run(text).await;
        let exception = run.exception();
        assert!(exception.message.contains(words), "{text}: {exception:?}");
        assert_eq!(exception.frames.last().unwrap().file, "<code>", "{text}");
    }
    // What asyncio would do in a thread is done in place.
    let text = "import asyncio\nprint(await asyncio.to_thread(sum, [1, 2]))\nprint(await asyncio.gather(*(asyncio.sleep(0, i) for i in range(3))))";
    assert_eq!(python.run(text).await.fine(), "3\n[0, 1, 2]\n");
}

#[tokio::test]
async fn scratch_is_bounded_and_can_be_freed() {
    let Some(python) = kit::start().await else { return };
    let limits = v1::ExecutionLimits { scratch_bytes: 8 << 20, ..Default::default() };
    let text = r#"
import errno, os
def full(go):
    try:
        go()
    except OSError as problem:
        return problem.errno == errno.ENOSPC
    return False
def fill(path, much):
    with open(path, "wb", buffering=0) as f:
        left = much
        while left > 0:
            left -= f.write(bytes(min(left, 1 << 20)))
assert full(lambda: fill("a", 20 << 20))
assert full(lambda: fill("/tmp/b", 20 << 20)), "all directories together"
os.remove("a")
assert not full(lambda: fill("c", 4 << 20))
def sparse():
    with open("d", "wb") as f:
        f.truncate(1 << 40)
assert full(sparse) or os.path.getsize("d") == 0, os.path.getsize("d")
def far():
    with open("e", "wb", buffering=0) as f:
        f.seek(1 << 40)
        f.write(b"x")
try:
    far()
    raise AssertionError("a terabyte fits")
except OSError:
    pass
def many():
    for i in range(10 ** 6):
        os.mkdir(f"/tmp/d{i}")
assert full(many), "directories cost something, too"
print("bounded")
"#;
    let run = python.call(limited(limits, code(text))).await.unwrap();
    assert_eq!(run.fine(), "bounded\n");
    assert!(run.result().usage.unwrap().scratch_bytes <= 8 << 20, "{:?}", run.result().usage);
}
