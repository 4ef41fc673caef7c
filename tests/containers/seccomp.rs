//! The seccomp profile, tried for real: what ordinary programs need works, and what is refused is refused.
//!
//! The scripts in `seccomp/` run inside a container. `calls.txt` there has the numbers of all calls, so that those the
//! profile does not name are tried as well.

use crate::kit::{House, PYTHON, Ran, docker, image, sh, shell};
use casemate::proto::v1;
use serde_json::Value;
use std::collections::BTreeMap;

macro_rules! scripts {
    ($($name:literal),*) => {
        &[$(($name, include_str!(concat!("seccomp/", $name)))),*]
    };
}

const SCRIPTS: &[(&str, &str)] = scripts!(
    "attempts.py",
    "calls.txt",
    "files.py",
    "kit.py",
    "processes.py",
    "refused.py",
    "refused32.py",
    "signals.py",
    "sockets.py",
    "sweep.py",
    "terminals.py",
    "works.py"
);
const CALLS: &str = include_str!("seccomp/calls.txt");
const BUSYBOX_TOOLS: &str = include_str!("seccomp/busybox.sh");
const X86: bool = cfg!(target_arch = "x86_64");
const NOT_PERMITTED: i32 = 1;
const NOT_THERE: i32 = 38;

/// A container with Python that has the scripts in its workspace.
async fn workshop(house: &House, spec: v1::ContainerSpec) -> v1::Container {
    let container = house.spawn(spec).await.unwrap();
    for (name, text) in SCRIPTS {
        let process = v1::ProcessSpec { stdin: (*text).into(), ..shell(&format!("cat > /workspace/{name}")) };
        let execution = house.start(&container.id, process).await.unwrap();
        assert_eq!(house.follow(&execution.id, 0).await.code(), 0, "{name}");
    }
    container
}

fn python() -> v1::ContainerSpec {
    image(PYTHON, &["/bin/sleep", "1000"])
}

/// Lines of a script that say that something is as it should be. All others that count are failures.
fn good(ran: &Ran) -> usize {
    let (text, errors) = (ran.text(), String::from_utf8_lossy(&ran.stderr));
    let failed: Vec<&str> = text.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert!(failed.is_empty() && ran.code() == 0, "{failed:#?}\n{errors}\n{text}");
    text.lines().filter(|line| line.starts_with("ok ")).count()
}

#[tokio::test]
async fn what_ordinary_programs_do_works() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let container = workshop(&house, python()).await;
    let ran = house.run(&container.id, "python3 works.py").await;
    assert_eq!(good(&ran), 79, "{}", ran.text());
    assert!(ran.text().contains("79 of 79 steps in 5 parts passed"), "{}", ran.text());
}

#[tokio::test]
async fn what_scripts_do_with_busybox_works() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let container = house.spawn(sh("sleep 1000")).await.unwrap();
    let process = v1::ProcessSpec { stdin: BUSYBOX_TOOLS.into(), ..shell("cat > tools.sh; sh tools.sh") };
    let execution = house.start(&container.id, process).await.unwrap();
    let ran = house.follow(&execution.id, 0).await;
    assert_eq!(good(&ran), 30, "{}", ran.text());
}

#[tokio::test]
async fn what_is_refused_is_refused_with_arguments_that_would_work() {
    if !docker() {
        return;
    }
    let house = House::open().await;
    let container = workshop(&house, python()).await;
    let ran = house.run(&container.id, "python3 refused.py").await;
    let (attempts, calls) = (good(&ran), ran.text());
    let calls = calls.lines().last().and_then(|line| line.split("; ").nth(1)).unwrap();
    match X86 {
        true => assert_eq!((attempts, calls), (181, "95 different calls"), "{}", ran.text()),
        false => assert!(attempts > 140, "{}", ran.text()),
    }
    if !X86 {
        return;
    }
    let ran = house.run(&container.id, "python3 refused32.py").await;
    let attempts = good(&ran);
    assert!(attempts == 45 || ran.text() == "this kernel has no 32-bit entry\n", "{attempts}: {}", ran.text());
}

/// What the profile says of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Word {
    Allowed,
    /// Refused with this.
    Refused(i32),
}

/// The profile as it is, by name. A call that is allowed with some arguments counts as allowed.
fn profile() -> BTreeMap<String, Word> {
    let profile: Value = serde_json::from_str(casemate::container::docker::SECCOMP).unwrap();
    assert_eq!((&profile["defaultAction"], &profile["defaultErrnoRet"]), (&"SCMP_ACT_ERRNO".into(), &1.into()));
    let mut words = BTreeMap::new();
    for group in profile["syscalls"].as_array().unwrap() {
        let word = match group["action"].as_str().unwrap() {
            "SCMP_ACT_ALLOW" => Word::Allowed,
            "SCMP_ACT_ERRNO" => Word::Refused(group["errnoRet"].as_i64().unwrap() as i32),
            other => panic!("{other}"),
        };
        for name in group["names"].as_array().unwrap() {
            let before = words.insert(name.as_str().unwrap().to_owned(), word);
            assert!(before.is_none_or(|before| before == word), "{name} is said twice, and differently");
        }
    }
    words
}

/// Names and numbers on this machine of calls that the profile does not allow; numbers that no call has among them.
fn refused() -> BTreeMap<String, (u32, Word)> {
    let words = profile();
    let column = if X86 { 1 } else { 3 };
    let (mut refused, mut numbers, mut names) = (BTreeMap::new(), Vec::new(), Vec::new());
    for line in CALLS.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split(' ').collect();
        names.push(columns[0]);
        let Ok(number) = columns[column].parse::<u32>() else { continue };
        numbers.push(number);
        match words.get(columns[0]).copied().unwrap_or(Word::Refused(NOT_PERMITTED)) {
            Word::Allowed => {}
            word => drop(refused.insert(columns[0].to_owned(), (number, word))),
        }
    }
    // A name that no machine knows would be a slip of the pen.
    for name in words.keys() {
        assert!(names.contains(&name.as_str()), "the profile names {name}, which is no call");
    }
    for number in (0..600).filter(|number| !numbers.contains(number)) {
        refused.insert(format!("number-{number}"), (number, Word::Refused(NOT_THERE)));
    }
    refused
}

/// What came of the calls, by name: one word for each kind of arguments.
async fn sweep(house: &House, id: &str, calls: &BTreeMap<String, (u32, Word)>) -> BTreeMap<String, Vec<String>> {
    let list: String = calls.iter().map(|(name, (number, _))| format!("{name} {number}\n")).collect();
    let process = v1::ProcessSpec { stdin: list.into(), ..shell("python3 sweep.py") };
    let execution = house.start(id, process).await.unwrap();
    let ran = house.follow(&execution.id, 0).await;
    assert_eq!(ran.code(), 0, "{}", String::from_utf8_lossy(&ran.stderr));
    let text = ran.text();
    let lines = text.lines().map(|line| line.split(' ').map(str::to_owned));
    lines.map(|mut words| (words.next().unwrap(), words.collect())).collect()
}

#[tokio::test]
async fn whatever_the_profile_does_not_name_never_succeeds() {
    if !docker() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let open = folder.path().join("open.json");
    std::fs::write(&open, r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).unwrap();
    let house = House::with(&format!("[containers.seccomp_profiles]\nopen = {open:?}\n")).await;
    let calls = refused();
    let named = calls.keys().filter(|name| !name.starts_with("number-")).count();
    assert!(named > 70 && calls.len() > 250, "only {named} calls by name, {} by number", calls.len());
    let container = workshop(&house, python()).await;
    let came = sweep(&house, &container.id, &calls).await;
    assert_eq!(came.len(), calls.len());
    let mut wrong = Vec::new();
    for (name, words) in &came {
        let (number, Word::Refused(errno)) = calls[name] else { unreachable!() };
        // Docker's library knows calls up to some number, and refuses what it does not know in its own way: both say no.
        let either = number > 440 || name.starts_with("number-");
        let fits = |word: &String| {
            let found = word.parse().unwrap_or(-1);
            found == errno || (either && [NOT_PERMITTED, NOT_THERE].contains(&found))
        };
        if words.len() != 3 || !words.iter().all(fits) {
            wrong.push(format!("{name} ({number}) wanted {errno}: {words:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // It is the profile that says so: without it, in a container that is hardened the same otherwise, many calls get
    // through, or fail for another reason.
    let hardening = v1::ContainerHardening { seccomp_profile: "open".into(), ..Default::default() };
    let container = workshop(&house, v1::ContainerSpec { hardening: Some(hardening), ..python() }).await;
    let without = sweep(&house, &container.id, &calls).await;
    let named = came.keys().filter(|name| !name.starts_with("number-"));
    let differ: Vec<&String> = named.filter(|name| came[*name] != without[*name]).collect();
    assert!(differ.len() > 40, "only {} calls differ without the profile: {differ:?}", differ.len());
    let through: Vec<&String> = without.keys().filter(|name| without[*name].iter().any(|word| word == "0")).collect();
    assert!(through.len() > 8, "only {through:?} succeed without the profile");
}
