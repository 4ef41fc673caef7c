//! Randomness: nobody draws what somebody else drew, whether isolates, forks, snapshots or sessions that come back.

use crate::kit::{self, code, out_of};
use casemate::proto::v1;
use std::collections::HashSet;

/// One draw of each source.
const DRAW: &str = "import os, random, secrets, tempfile, uuid\nimport numpy as np\n\
    print(random.random(), random.getrandbits(64), random.SystemRandom().random(), random.Random().random(), uuid.uuid4(), \
    uuid.uuid1(), secrets.token_hex(8), os.urandom(8).hex(), np.random.rand(), np.random.default_rng().random(), \
    np.random.RandomState().rand(), next(tempfile._get_candidate_names()), os.path.basename(tempfile.mkdtemp()))";
const SOURCES: usize = 13;

/// All that was drawn, by source.
#[derive(Default)]
struct Drawn(Vec<HashSet<String>>);

impl Drawn {
    fn note(&mut self, whose: &str, line: &str) {
        self.0.resize(SOURCES, HashSet::new());
        let values: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(values.len(), SOURCES, "{line}");
        for (source, value) in values.into_iter().enumerate() {
            assert!(self.0[source].insert(value.into()), "source {source} gave {value} twice, now to {whose}");
        }
    }
}

#[tokio::test]
async fn nobody_draws_the_same() {
    let Some(python) = kit::start().await else { return };
    let mut drawn = Drawn::default();
    for isolate in 0..200 {
        drawn.note(&format!("isolate {isolate}"), &python.run(DRAW).await.fine());
    }
    // A session that drew before it is copied.
    let session = python.session().await;
    drawn.note("the session", &python.turn(&session, DRAW).await.fine());
    let fork = v1::ForkSessionRequest { session_id: session.clone(), count: 20, ..Default::default() };
    let forks = python.sessions().fork_session(fork).await.unwrap().into_inner().sessions;
    for (index, fork) in forks.iter().enumerate() {
        drawn.note(&format!("fork {index}"), &python.turn(&fork.id, DRAW).await.fine());
    }
    drawn.note("the session after the fork", &python.turn(&session, DRAW).await.fine());
    let freeze = v1::SnapshotSessionRequest { session_id: session.clone(), name: "drawn".into(), ..Default::default() };
    python.sessions().snapshot_session(freeze).await.unwrap();
    for isolate in 0..20 {
        let run = python.call(out_of("drawn", code(DRAW))).await.unwrap();
        drawn.note(&format!("isolate {isolate} of the snapshot"), &run.fine());
    }
    drawn.note("the session after the snapshot", &python.turn(&session, DRAW).await.fine());
    // The same state comes back in another process, twice.
    python.durable(&session).await;
    let python = python.kill_and_restart().await;
    drawn.note("the session after a kill", &python.turn(&session, DRAW).await.fine());
    let python = python.kill_and_restart().await;
    drawn.note("the session after another kill", &python.turn(&session, DRAW).await.fine());
    let run = python.call(out_of("drawn", code(DRAW))).await.unwrap();
    drawn.note("an isolate of the snapshot after the kill", &run.fine());
    // A turn that is cut off puts the state back to where it was.
    for round in 0..3 {
        let cut = python.call(kit::within(&session, code("import os\nos.abort()"))).await.unwrap();
        assert_eq!(cut.reason(), v1::ExitReason::Trapped);
        drawn.note(&format!("the session after trap {round}"), &python.turn(&session, DRAW).await.fine());
        python.durable(&session).await;
    }
}

#[tokio::test]
async fn time_goes_on() {
    let Some(python) = kit::start().await else { return };
    let text = "import time, datetime\nprint(time.time(), datetime.datetime.now(datetime.timezone.utc).timestamp())";
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let session = python.session().await;
    let mut last = before;
    for _ in 0..3 {
        for value in python.turn(&session, text).await.fine().split_whitespace() {
            let value: f64 = value.parse().unwrap();
            assert!(value >= last - 0.01, "{value} after {last}");
            last = value;
        }
    }
    let after = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!(last <= after + 0.01, "{last} is later than {after}");
    // Monotonic time does not go back when a session comes back in a process that is younger.
    python.turn(&session, "import time\nthen = time.monotonic()").await.fine();
    python.durable(&session).await;
    let python = python.kill_and_restart().await;
    assert_eq!(python.turn(&session, "print(time.monotonic() >= then)").await.fine(), "True\n");
}
