//! Snapshots that are built, and packages that an operator adds for all isolates.

use crate::harness::{Server, TOKEN, reason};
use crate::kit::{self, Python, code, out_of, within};
use casemate::proto::v1;
use casemate::proto::v1::build_snapshot_request::Part;
use std::process::Command;
use tonic::{Code, Status};

type Files<'a> = &'a [(&'a str, &'a str)];

async fn build(
    python: &Python,
    header: v1::BuildSnapshotHeader,
    files: Files<'_>,
) -> Result<(v1::Snapshot, String), Status> {
    let file = |(path, data): &(&str, &str)| {
        // In two parts, as long files come.
        let (begin, end) = data.split_at(data.len() / 2);
        [begin, end].map(|data| Part::File(v1::PackageFile { path: (*path).into(), data: data.into() }))
    };
    let parts = [Part::Header(header)].into_iter().chain(files.iter().flat_map(file));
    let parts: Vec<_> = parts.map(|part| v1::BuildSnapshotRequest { part: Some(part) }).collect();
    let built = python.snapshots().build_snapshot(tokio_stream::iter(parts)).await?.into_inner();
    Ok((built.snapshot.unwrap(), built.output))
}

fn header(name: &str, preload: &str) -> v1::BuildSnapshotHeader {
    v1::BuildSnapshotHeader { name: name.into(), tool: "python".into(), preload: preload.into(), ..Default::default() }
}

const GREET: Files = &[
    ("greet/__init__.py", "import random\nfrom .words import hello\nloaded_at = random.random()\n"),
    ("greet/words.py", "def hello(name): return f'hello {name}'\n"),
    ("greet/late.py", "value = 'late'\n"),
    ("greet/data.txt", "data"),
    ("greet-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: greet\nVersion: 1.2\n"),
    ("tomllib.py", "raise RuntimeError('not the real one')\n"),
];

const PRELOAD: &str = "import greet, __main__\nprint('preloading')\nhidden = 1\n__main__.words = [greet.hello('a')]\n\
                       def shout(name): return greet.hello(name).upper()\n__main__.shout = shout\n";

/// What code sees of the packages and of the preload.
const LOOK: &str = "import sys, importlib.metadata, importlib.resources\nfrom greet import late\nimport tomllib\n\
                    print(words, shout('b'), 'hidden' in dir(), '_' in dir(__builtins__), late.value,\n\
                    importlib.metadata.version('greet'), importlib.resources.read_text('greet', 'data.txt'), tomllib.__name__)\n\
                    try: open(greet.__file__, 'w')\nexcept OSError as e: print(type(e).__name__)\n";

const SEEN: &str = "['hello a'] HELLO B False False late 1.2 data tomllib\n";

#[tokio::test]
async fn packages_and_preload_are_in_a_snapshot() {
    let Some(python) = kit::start().await else { return };
    let header = v1::BuildSnapshotHeader {
        description: "greets".into(),
        labels: [("a".to_owned(), "b".to_owned())].into(),
        request_id: "01890000-0000-7000-8000-000000000001".into(),
        ..header("greeting", PRELOAD)
    };
    let (snapshot, output) = build(&python, header.clone(), GREET).await.unwrap();
    assert!(output.contains("preloading\n") && output.contains("tomllib comes with Python here"), "{output}");
    assert_eq!((&*snapshot.name, &*snapshot.description, snapshot.labels["a"].as_str()), ("greeting", "greets", "b"));
    assert_eq!(snapshot.state(), v1::SnapshotState::Ready);
    assert!(snapshot.size_bytes > 0 && snapshot.size_bytes < snapshot.total_bytes + (1 << 20), "{snapshot:?}");
    let Some(v1::snapshot::Source::Build(made)) = &snapshot.source else { panic!("{snapshot:?}") };
    assert_eq!(
        (&made.packages[..], &made.preloaded_modules[..]),
        (&["greet 1.2".to_owned()][..], &["greet".to_owned()][..])
    );
    // A retry answers with what was made.
    assert_eq!(build(&python, header, GREET).await.unwrap().0.id, snapshot.id);

    let look = format!("import greet\n{LOOK}");
    let seen = |text: &str| assert!(text.starts_with(SEEN) && text.lines().count() == 2, "{text}");
    for _ in 0..3 {
        seen(&python.call(out_of("greeting", code(&look))).await.unwrap().fine());
    }
    // Imported once and for all, but not the same random numbers.
    let random = code("import greet, random, uuid\nprint(greet.loaded_at, random.random(), uuid.uuid4())");
    let (one, two) = (out_of("greeting", random.clone()), out_of("greeting", random));
    let (one, two) = (python.call(one).await.unwrap().fine(), python.call(two).await.unwrap().fine());
    let parts = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let same: Vec<bool> = parts(&one).iter().zip(parts(&two)).map(|(a, b)| *a == b).collect();
    assert_eq!(same, [true, false, false], "{one}{two}");
    // Without the snapshot there is none of it.
    assert_eq!(python.call(code("import greet")).await.unwrap().raised().0, "ModuleNotFoundError");

    // In a session, after a kill, in a copy, and in a snapshot of the session when the first one is deleted.
    let target = v1::SessionTarget { target: Some(v1::session_target::Target::SnapshotId("greeting".into())) };
    let request = v1::CreateSessionRequest { target: Some(target), ..Default::default() };
    let session = python.session_with(request).await.id;
    seen(&python.turn(&session, &look).await.fine());
    python.durable(&session).await;
    let python = python.kill_and_restart().await;
    seen(&python.turn(&session, LOOK).await.fine());
    let request = v1::ForkSessionRequest { session_id: session.clone(), count: 1, ..Default::default() };
    let copy = python.sessions().fork_session(request).await.unwrap().into_inner().sessions.remove(0).id;
    let request = v1::SnapshotSessionRequest { session_id: session, name: "later".into(), ..Default::default() };
    python.sessions().snapshot_session(request).await.unwrap();
    let request = v1::DeleteSnapshotRequest { snapshot_id: "greeting".into(), ..Default::default() };
    python.snapshots().delete_snapshot(request).await.unwrap();
    seen(&python.call(within(&copy, code(LOOK))).await.unwrap().fine());
    seen(&python.call(out_of("later", code(LOOK))).await.unwrap().fine());
    let gone = python.call(out_of("greeting", code("1"))).await.unwrap_err();
    assert_eq!(reason(&gone), "SNAPSHOT_NOT_FOUND");
}

#[tokio::test]
async fn what_cannot_be_built_is_told() {
    let Some(python) = kit::start().await else { return };
    let ok = ("a.py", "x = 1");
    let cases: &[(&str, &str, Files, &str)] = &[
        ("a-b", "def f(x): return 1 / x\nf(0)", &[], "File \"preload.py\", line 1, in f"),
        ("a-b", "x = (", &[], "SyntaxError: '(' was never closed"),
        ("a-b", "import sys\nsys.exit(0)", &[], "must come to its own end"),
        ("a-b", "import nope", &[ok], "No module named 'nope'"),
        ("a-b", "from casemate import tools\ntools.python(code='1')", &[], "there is no tool"),
        ("a-b", "", &[], "header.preload"),
        ("a-b", "", &[ok, ("x/_c.abi3.so", "x")], "x/_c.abi3.so is native code"),
        ("a-b", "", &[ok, ("../b.py", "x")], "without \".\" and \"..\""),
        ("a-b", "", &[ok, ("/b.py", "x")], "without \".\" and \"..\""),
        ("a-b", "", &[ok, ("b.py", "x"), ok], "is there twice"),
        ("A b", "", &[ok], "header.name"),
        ("python", "1", &[], "there is a snapshot \"python\" already"),
    ];
    for (name, preload, files, words) in cases {
        let refused = build(&python, header(name, preload), files).await.unwrap_err();
        assert!(refused.message().contains(words), "{name} {preload}: {refused:?}");
        let wanted = if *name == "python" { Code::AlreadyExists } else { Code::InvalidArgument };
        assert_eq!(refused.code(), wanted, "{name} {preload}: {refused:?}");
    }
    for tool in ["", "nope", "echo"] {
        let refused = build(&python, v1::BuildSnapshotHeader { tool: tool.into(), ..header("c", "1") }, &[]).await;
        assert!(matches!(refused.unwrap_err().code(), Code::InvalidArgument | Code::FailedPrecondition), "{tool}");
    }
    // Nothing of it takes the name, or is left.
    build(&python, header("a-b", "import json"), &[]).await.unwrap();
    let listed = python.snapshots().list_snapshots(v1::ListSnapshotsRequest::default()).await.unwrap().into_inner();
    let names: Vec<String> = listed.snapshots.into_iter().map(|snapshot| snapshot.name).collect();
    assert!(names.contains(&"a-b".to_owned()) && !names.contains(&"c".to_owned()), "{names:?}");
    assert_eq!(std::fs::read_dir(python.server.path().join("data/snapshots")).unwrap().count(), 1);
}

#[tokio::test]
async fn an_operator_adds_packages_for_everybody() {
    let write = |folder: &std::path::Path, name: &str, text: &str| {
        std::fs::create_dir_all(folder.join("site/house")).unwrap();
        std::fs::write(folder.join("site/house").join(name), text).unwrap();
    };
    let setup = |setup: crate::harness::Setup| {
        write(setup.path(), "__init__.py", "version = 1");
        write(setup.path(), "fast.so", "x");
        std::os::unix::fs::symlink("/etc/passwd", setup.path().join("site/house/passwd.py")).unwrap();
        setup.config("packages = \"site\"")
    };
    let Some(python) = kit::start_with(setup).await else { return };
    let look = "import house, os\nprint(house.version, sorted(os.listdir(os.path.dirname(house.__file__))))";
    assert_eq!(python.run(look).await.fine(), "1 ['__init__.py']\n");
    let session = python.session().await;
    assert_eq!(python.turn(&session, look).await.fine(), "1 ['__init__.py']\n");
    build(&python, header("own", "import __main__\n__main__.x = 1"), &[("own.py", "import house")]).await.unwrap();
    let from = out_of("own", code("import own\nprint(own.house.version, x)"));
    assert_eq!(python.call(from.clone()).await.unwrap().fine(), "1 1\n");
    python.durable(&session).await;
    // Others after a restart; what was frozen goes on with them.
    write(python.server.path(), "__init__.py", "version = 2");
    write(python.server.path(), "more.py", "more = 3");
    let python = python.kill_and_restart().await;
    assert_eq!(python.run(look).await.fine(), "2 ['__init__.py', 'more.py']\n");
    assert_eq!(python.call(from).await.unwrap().fine(), "2 1\n");
    let text = "print(house.version)\nimport house.more\nprint(house.more.more)";
    assert_eq!(python.turn(&session, text).await.fine(), "1\n3\n");

    // One that cannot be used leaves everything else as it is, and is told.
    std::fs::remove_dir_all(python.server.path().join("site")).unwrap();
    let python = python.kill_and_restart().await;
    assert_eq!(python.run("print(1)").await.fine(), "1\n");
    let (_, health) = python.server.get("/health").await;
    assert!(health.contains("interpreters.packages"), "{health}");
}

#[tokio::test]
async fn a_machine_without_a_server_builds_as_well() {
    let Some(python) = kit::start().await else { return };
    let write = |folder: &std::path::Path| {
        std::fs::create_dir_all(folder.join("packages/greet/__pycache__")).unwrap();
        std::fs::write(folder.join("packages/greet/__init__.py"), "name = 'greet'").unwrap();
        std::fs::write(folder.join("packages/greet/__pycache__/a.cpython-39.pyc"), "x").unwrap();
        std::fs::write(folder.join("load.py"), "import greet").unwrap();
    };
    write(python.server.path());
    let command = |folder: &std::path::Path, further: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_casemate"));
        command
            .current_dir(folder)
            .args(["snapshots", "build", "cli", "--preload", "load.py", "--packages", "packages"])
            .args(["--config", "casemate.toml"])
            .args(further)
            .env("CASEMATE_AUTH__TOKEN", TOKEN)
            .env("CASEMATE_STORE__DIRECTORY", "data");
        let done = command.output().unwrap();
        (done.status.code(), String::from_utf8(done.stdout).unwrap(), String::from_utf8(done.stderr).unwrap())
    };
    let (status, _, problem) = command(python.server.path(), &["--offline"]);
    assert_eq!(status, Some(1));
    assert!(problem.contains("in use by another casemate") && problem.contains("leave out --offline"), "{problem}");
    let folder = python.server.kill();
    let (status, shown, problem) = command(folder.path(), &["--offline"]);
    assert_eq!((status, &*problem), (Some(0), ""), "{shown}");
    assert!(shown.contains("\"preloadedModules\":[\"greet\"]"), "{shown}");
    let python = Python::on(Server::start(folder).await).await;
    assert_eq!(python.call(out_of("cli", code("import greet\nprint(greet.name)"))).await.unwrap().fine(), "greet\n");

    // With the server: the same, and problems with the packages are known before anything is sent.
    let address = ["--address", &python.server.grpc, "--token", TOKEN];
    let (status, _, problem) = command(python.server.path(), &address);
    assert_eq!(status, Some(1));
    assert!(problem.contains("SNAPSHOT_EXISTS"), "{problem}");
    std::fs::write(python.server.path().join("packages/greet/_c.so"), "x").unwrap();
    let (status, _, problem) = command(python.server.path(), &address);
    assert_eq!(status, Some(2));
    assert!(problem.contains("greet/_c.so is native code"), "{problem}");
}
