//! exec and attach: streams, exit codes, terminals, and servers that are killed meanwhile.

use crate::house::{House, Terminal, docker, drain, sip};
use crate::kit::{PATIENCE, finish_with_input, send_signal, wait};
use rustix::process::Signal;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

#[test]
fn a_command_runs_as_if_it_ran_here() {
    if !docker() {
        return;
    }
    let house = House::open();
    house.idle("box");
    let sh = |script: &str| house.casemate(&["exec", "box", "sh", "-c", script]);
    let done = sh("echo out; echo err >&2; exit 7").expect(7);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("out\n", "err\n"));
    let killed = sh("kill -TERM $$").expect(143).stderr;
    assert!(killed.contains("SIGTERM"), "{killed}");
    sh("kill -KILL $$").expect(137);
    sh("cat; echo $?").expect(0);
    let options = ["exec", "--env", "A=b c", "--workdir", "/tmp", "--timeout", "1m", "box", "sh", "-c", "echo $A; pwd"];
    assert_eq!(house.casemate(&options).expect(0).stdout, "b c\n/tmp\n");
    let late = house.casemate(&["exec", "--timeout", "300ms", "box", "sleep", "1000"]).expect(124).stderr;
    assert!(late.contains("timed_out"), "{late}");
    let absent = house.casemate(&["exec", "box", "no-such-program"]).expect(125).stderr;
    assert!(absent.contains("PROCESS_NOT_STARTED") && absent.contains("the command did not run"), "{absent}");
    house.casemate(&["exec", "nobody", "true"]).expect(5);
    house.casemate(&["exec", "--user", "0", "box", "true"]).expect(4);
    let events = house.casemate(&["exec", "--json", "box", "echo", "x"]).expect(0).json_lines();
    assert!(events.iter().any(|event| event["stdout"]["text"] == "x\n"), "{events:?}");
    assert_eq!(events.last().unwrap()["finished"]["state"], "EXECUTION_STATE_SUCCEEDED");
    let lone = house.casemate(&["exec", "-t", "box", "sh"]).expect(2).stderr;
    assert!(lone.contains("standard input is not one") && lone.contains("leave out -t"), "{lone}");
}

#[test]
fn input_arrives_whole_and_ends() {
    if !docker() {
        return;
    }
    let house = House::open();
    house.idle("box");
    let cat = house.server().client(&["exec", "-i", "box", "cat"]);
    assert_eq!(finish_with_input(cat, "through a pipe").expect(0).stdout, "through a pipe");
    let much = "0123456789abcdef".repeat(3 << 16);
    let count = house.server().client(&["exec", "-i", "box", "wc", "-c"]);
    assert_eq!(finish_with_input(count, &much).expect(0).stdout.trim(), much.len().to_string());
    // Input that nobody reads is no reason to stay.
    let mut done = house.server().client(&["exec", "-i", "box", "true"]);
    let mut done = done.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    assert_eq!(wait(&mut done).code(), Some(0));
}

#[test]
fn an_interrupt_reaches_the_command() {
    if !docker() {
        return;
    }
    let house = House::open();
    house.idle("box");
    let trap = "trap 'echo caught; exit 9' INT; echo ready; while true; do sleep 0.01; done";
    let (mut client, lines) = house.server().start(&["exec", "box", "sh", "-c", trap]);
    lines.until("ready");
    send_signal(&client, Signal::INT);
    lines.until("caught");
    assert_eq!(wait(&mut client).code(), Some(9));
    let deaf = "trap '' INT; echo ready; while true; do sleep 0.01; done";
    let (mut client, lines) = house.server().start(&["exec", "box", "sh", "-c", deaf]);
    lines.until("ready");
    send_signal(&client, Signal::INT);
    house.until("it is still there", |house| running(house) == 1);
    // The second one is not for it to ignore. Two that come at once are one.
    house.until("it is over", |house| {
        let over = running(house) == 0;
        if !over {
            send_signal(&client, Signal::INT);
        }
        over
    });
    assert_eq!(wait(&mut client).code(), Some(130));
    // However fast they come: who leaves with the third has ended the command with the second.
    for _ in 0..5 {
        let (mut client, lines) = house.server().start(&["exec", "box", "sh", "-c", deaf]);
        lines.until("ready");
        while client.try_wait().unwrap().is_none() {
            send_signal(&client, Signal::INT);
        }
        assert_eq!(wait(&mut client).code(), Some(130));
        house.until("it is over", |house| running(house) == 0);
    }
}

/// Executions that run, the main process of the container `box` not counted.
fn running(house: &House) -> u64 {
    house.get("box")["runningExecutions"].as_u64().unwrap_or_default()
}

#[test]
fn a_command_that_was_left_is_found_again() {
    if !docker() {
        return;
    }
    let house = House::open();
    house.idle("box");
    let script = "echo first; read line; echo got $line; read line; echo and $line; exit 4";
    let id = house.casemate(&["exec", "-i", "--detach", "box", "sh", "-c", script]).expect(0).stdout;
    let id = id.trim_end();
    let mut one = house.server().client(&["attach", "-i", id]);
    let mut one = one.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let screen = drain(one.stdout.take().unwrap());
    expect(&screen, "first\n");
    let mut keys = one.stdin.take().unwrap();
    keys.write_all(b"a\n").unwrap();
    expect(&screen, "got a\n");
    // It goes without a word, and leaves the input open.
    one.kill().unwrap();
    wait(&mut one);
    let listener = house.server().start(&["attach", id]);
    listener.1.until("got a");
    let two = finish_with_input(house.server().client(&["attach", "-i", "--from", "live", id]), "b\n").expect(4);
    assert_eq!(two.stdout, "and b\n");
    let (mut listener, lines) = listener;
    assert_eq!(wait(&mut listener).code(), Some(4));
    assert_eq!(lines.rest(), ["and b"]);
    let again = house.casemate(&["attach", id]).expect(4);
    assert_eq!(again.stdout, "first\ngot a\nand b\n");
    house.casemate(&["attach", "--from", "live", id]).expect(4);
    house.casemate(&["attach", "01a1fc91-0000-7000-8000-000000000000"]).expect(5);
}

fn expect(screen: &Receiver<Vec<u8>>, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    let mut seen = Vec::new();
    while seen != text.as_bytes() {
        assert!(text.as_bytes().starts_with(&seen), "{:?} is not {text:?}", String::from_utf8_lossy(&seen));
        seen.extend(screen.recv_timeout(deadline.saturating_duration_since(Instant::now())).unwrap());
    }
}

#[test]
fn no_byte_is_lost_or_doubled_when_the_server_is_killed() {
    if !docker() {
        return;
    }
    let mut house = House::open();
    house.idle("box");
    let mut client = house.server().client(&["exec", "-i", "box", "cat"]);
    let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // What is read late is still on its way when the server is killed.
    let (screen, told) = (sip(client.stdout.take().unwrap()), drain(client.stderr.take().unwrap()));
    let sent: Vec<u8> = (0u32..3 << 18).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let input = sent.clone();
    let mut keys = client.stdin.take().unwrap();
    let (go_on, may_go_on) = channel();
    // Writes as fast as it is taken, all the while; only the end waits for the last server.
    let writer = std::thread::spawn(move || {
        let (most, rest) = input.split_at(input.len() * 3 / 4);
        keys.write_all(most).unwrap();
        may_go_on.recv().unwrap();
        keys.write_all(rest).unwrap();
    });
    let (mut got, mut told) = (Vec::new(), Told { pipe: told, text: String::new() });
    let read = |got: &mut Vec<u8>, enough: &mut dyn FnMut(usize) -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !enough(got.len()) {
            assert!(Instant::now() < deadline, "only {} bytes of {} came", got.len(), sent.len());
            // Now and then nothing comes until the client is back.
            got.extend(screen.recv_timeout(Duration::from_millis(10)).unwrap_or_default());
        }
    };
    for part in 1..=2 {
        read(&mut got, &mut |length| length >= sent.len() * part / 4);
        house.replace_server();
        // It may have much to print before it notices.
        read(&mut got, &mut |_| told.count("attached again") == part);
    }
    go_on.send(()).unwrap();
    read(&mut got, &mut |length| length >= sent.len());
    writer.join().unwrap();
    assert_eq!(wait(&mut client).code(), Some(0));
    got.extend(screen.into_iter().flatten());
    let differs = got.iter().zip(&sent).position(|(got, sent)| got != sent);
    assert_eq!((got.len(), differs), (sent.len(), None));
    assert_eq!(told.count("the connection to the server was lost"), 2, "{}", told.text);
}

/// What a client says besides the output.
struct Told {
    pipe: Receiver<Vec<u8>>,
    text: String,
}

impl Told {
    /// How often it has said this so far.
    fn count(&mut self, what: &str) -> usize {
        for piece in self.pipe.try_iter() {
            self.text.push_str(&String::from_utf8_lossy(&piece));
        }
        self.text.matches(what).count()
    }
}

fn interactive(house: &House, arguments: &[&str]) -> Terminal {
    Terminal::run(&house.server().client(arguments), 91, 37)
}

#[test]
fn a_terminal_has_keys_a_size_and_an_end() {
    if !docker() {
        return;
    }
    let house = House::open();
    house.idle("box");
    let mut terminal = interactive(&house, &["exec", "-it", "box", "sh"]);
    terminal.until("$ ");
    assert!(!terminal.is_cooked());
    terminal.type_in("stty size\r");
    terminal.until("37 91");
    terminal.resize(120, 50);
    // The news of the size overtakes no key, and may come after it.
    terminal.until("$ ");
    terminal.type_in("until [ \"$(stty size)\" = '50 120' ]; do :; done; echo re''sized\r");
    terminal.until("resized");
    terminal.type_in("sleep 1000; echo $?\r");
    terminal.until("echo $?");
    // The terminal inside makes a signal of it.
    house.until("it sleeps", |house| {
        house.casemate(&["exec", "box", "sh", "-c", "ps | grep -q '[s]leep 1000$'"]).code == 0
    });
    terminal.type_in("\x03");
    terminal.until("$ ");
    terminal.type_in("tty; exit 5\r");
    terminal.until("/dev/");
    assert_eq!(wait(&mut terminal.child).code(), Some(5));
    assert!(terminal.is_cooked());
}

#[test]
fn keys_detach_from_a_terminal_and_attach_finds_it() {
    if !docker() {
        return;
    }
    let mut house = House::open();
    house.idle("box");
    let mut terminal = interactive(&house, &["exec", "-it", "box", "sh"]);
    terminal.until("$ ");
    terminal.type_in("X=kept; echo a''b\r");
    terminal.until("ab");
    terminal.until("$ ");
    terminal.type_in("\x10\x11");
    terminal.until("detached; `casemate ");
    let hint = terminal.until("` goes on");
    assert_eq!(wait(&mut terminal.child).code(), Some(0));
    assert!(terminal.is_cooked());
    let hint: Vec<&str> = hint.split(' ').collect();
    let mut terminal = interactive(&house, &hint);
    terminal.type_in("echo $X\r");
    terminal.until("kept");
    terminal.until("$ ");
    // A server that is killed is a pause.
    house.replace_server();
    terminal.until("trying again");
    terminal.type_in("echo st''ill $X\r");
    terminal.until("attached again");
    terminal.until("still kept");
    // A lone ctrl-p is the shell's; here it fetches the last line.
    terminal.type_in("\x10\r");
    terminal.until("still kept");
    // What is killed leaves the terminal as it found it.
    send_signal(&terminal.child, Signal::TERM);
    terminal.until("left; `casemate ");
    assert_eq!(wait(&mut terminal.child).code(), Some(143));
    assert!(terminal.is_cooked());
    assert_eq!(running(&house), 1);
}

#[test]
fn figures_and_kills_are_for_people_too() {
    if !docker() {
        return;
    }
    let house = House::open();
    let id = house.spawn("box", "echo farewell; sleep 100000");
    house.until("it has spoken", |house| house.casemate(&["containers", "logs", "box"]).stdout == "farewell\n");
    let mut stats = interactive(&house, &["containers", "stats", "box", "--interval", "100ms"]);
    stats.until("NAME");
    // Drawn over itself.
    stats.until("\x1b[2A\r");
    stats.until("box");
    let mut watch = interactive(&house, &["containers", "watch"]);
    watch.until("box  running");
    let mut kill = interactive(&house, &["containers", "kill", "box"]);
    kill.until("box  ended (killed)");
    kill.until("farewell");
    watch.until("box  ended (killed)");
    assert_eq!(wait(&mut stats.child).code(), Some(0));
    let mut list = interactive(&house, &["containers", "list", "--all"]);
    list.until("NAME");
    list.until("ended");
    let mut get = interactive(&house, &["containers", "get", &id]);
    get.until("killed");
    get.until("casemate-test/busybox:1");
}

#[test]
fn whoever_stops_reading_ends_what_nobody_reads() {
    if !docker() {
        return;
    }
    let house = House::open();
    house.idle("box");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!("{} exec box yes | head -n 1", env!("CARGO_BIN_EXE_casemate"))]);
    shell.current_dir(house.server().folder.path()).env("CASEMATE_ADDRESS", &house.server().address);
    let done = crate::kit::finish(shell).expect(0);
    assert_eq!((done.stdout.as_str(), done.stderr.as_str()), ("y\n", ""));
    house.until("it is over", |house| running(house) == 0);
}
