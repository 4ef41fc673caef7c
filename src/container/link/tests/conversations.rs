//! Work beside processes, with guests that keep to the rules and guests that do not.

use super::*;
use casemate_guest::protocol::{Answer, Failure, WINDOW};

fn request() -> Request {
    Request::Stat { root: b"/".to_vec(), path: b"/x".to_vec(), follow: false }
}

/// A guest that was greeted, and a conversation that it was asked for.
async fn asked(world: &World) -> (Guest, Conversation, u64) {
    let mut guest = world.guest().await;
    guest.hello(VERSION, Vec::new()).await;
    world.link.connected().await.unwrap();
    let conversation = world.link.open(request()).unwrap();
    loop {
        if let (ToGuest::Open { channel, .. }, _) = guest.next().await {
            return (guest, conversation, channel);
        }
    }
}

#[tokio::test]
async fn what_is_said_comes_in_order_and_ends() {
    let world = world().await;
    let (mut guest, mut conversation, channel) = asked(&world).await;
    guest.say(FromGuest::Began { channel, stat: None }, b"").await;
    guest.say(FromGuest::Data { channel }, b"one").await;
    guest.say(FromGuest::DataEnd { channel }, b"").await;
    guest.say(FromGuest::Done { channel, result: Ok(Answer::Done) }, b"").await;
    let expected = [Said::Began(None), Said::Data("one".into()), Said::End, Said::Done(Ok(Answer::Done))];
    for said in expected {
        assert_eq!(conversation.next().await, Some(said));
    }
    assert_eq!(conversation.next().await, None);
    // The next has another number.
    let _next = world.link.open(request()).unwrap();
    guest.until(|message| matches!(message, ToGuest::Open { channel: next, .. } if *next > channel)).await;
}

#[tokio::test]
async fn no_more_is_sent_than_is_granted() {
    let world = world().await;
    let (mut guest, conversation, channel) = asked(&world).await;
    let speaker = conversation.speaker().clone();
    let all = WINDOW as usize * 3;
    let sending = tokio::spawn(async move {
        let sent = speaker.send(vec![7; all].into()).await;
        speaker.finish();
        sent
    });
    let (mut came, mut granted) = (0, WINDOW as usize);
    loop {
        match guest.next().await {
            (ToGuest::Data { .. }, payload) => {
                came += payload.len();
                assert!(came <= granted, "{came} of {granted}");
                if came == granted {
                    granted += 100_000;
                    guest.say(FromGuest::More { channel, credit: 100_000 }, b"").await;
                }
            }
            (ToGuest::DataEnd { .. }, _) => break,
            _ => {}
        }
    }
    assert_eq!(came, all);
    assert!(sending.await.unwrap());
    // Whoever waits for room learns that there will be none.
    let speaker = conversation.speaker().clone();
    let waiting = tokio::spawn(async move { speaker.send(vec![7; all].into()).await });
    guest.say(FromGuest::Done { channel, result: Err(Failure::NoSpace) }, b"").await;
    assert!(!waiting.await.unwrap());
}

#[tokio::test]
async fn what_is_taken_is_granted_again() {
    let world = world().await;
    let (mut guest, mut conversation, channel) = asked(&world).await;
    let piece = vec![1; WINDOW as usize / 2];
    for _ in 0..2 {
        guest.say(FromGuest::Data { channel }, &piece).await;
        assert_eq!(conversation.next().await, Some(Said::Data(piece.clone().into())));
    }
    let mut granted = 0;
    while granted < WINDOW {
        if let (ToGuest::More { credit, .. }, _) = guest.next().await {
            granted += credit;
        }
    }
    assert_eq!(granted, WINDOW);
}

#[tokio::test]
async fn one_that_is_left_is_given_up_and_heard_no_more() {
    let world = world().await;
    let (mut guest, conversation, channel) = asked(&world).await;
    drop(conversation);
    guest.until(|message| *message == ToGuest::Drop { channel }).await;
    // What was on its way is no lie.
    guest.say(FromGuest::Data { channel }, b"late").await;
    guest.say(FromGuest::Done { channel, result: Err(Failure::Dropped) }, b"").await;
    // Behind its end it is one.
    guest.say(FromGuest::Data { channel }, b"later").await;
    assert!(world.broken().await.contains("not open"));
}

#[tokio::test]
async fn a_connection_that_is_lost_ends_it() {
    let world = world().await;
    let (guest, mut conversation, _) = asked(&world).await;
    let speaker = conversation.speaker().clone();
    drop(guest);
    assert_eq!(conversation.next().await, None);
    assert!(!speaker.send("x".into()).await);
    assert_eq!(world.link.open(request()).err(), Some(Unheard::Away));
}

#[tokio::test]
async fn there_are_only_so_many() {
    let world = world().await;
    let (_guest, conversation, _) = asked(&world).await;
    let mut all = vec![conversation];
    loop {
        match world.link.open(request()) {
            Ok(conversation) => all.push(conversation),
            Err(unheard) => {
                assert_eq!(unheard, Unheard::TooMany);
                break;
            }
        }
    }
    assert_eq!(all.len(), 224);
    all.pop();
    assert!(world.link.open(request()).is_ok());
}

#[tokio::test]
async fn every_lie_about_a_conversation_ends_the_link() {
    type Lie = fn(u64) -> (FromGuest, Vec<u8>);
    let lies: [(&str, Lie); 6] = [
        ("not open", |channel| (FromGuest::Data { channel: channel + 2 }, b"x".to_vec())),
        ("not open", |channel| (FromGuest::Done { channel: channel + 1, result: Ok(Answer::Done) }, Vec::new())),
        ("not open", |channel| (FromGuest::More { channel: channel + 4, credit: 1 }, Vec::new())),
        ("granted", |channel| (FromGuest::Data { channel }, vec![0; WINDOW as usize + 1])),
        ("a list", |channel| (FromGuest::Entries { channel }, vec![0xff; 40])),
        ("changes", |channel| (FromGuest::Events { channel }, vec![0xff; 40])),
    ];
    for (problem, lie) in lies {
        let world = world().await;
        let (mut guest, mut conversation, channel) = asked(&world).await;
        let (message, payload) = lie(channel);
        guest.say(message, &payload).await;
        let said = world.broken().await;
        assert!(said.contains(problem), "{problem}: {said}");
        assert_eq!(conversation.next().await, None);
    }
}

/// A guest that was greeted.
async fn greeted(world: &World) -> Guest {
    let mut guest = world.guest().await;
    guest.hello(VERSION, Vec::new()).await;
    world.link.connected().await.unwrap();
    guest
}

#[tokio::test]
async fn a_process_at_the_gate_is_answered() {
    let world = world().await;
    let mut guest = greeted(&world).await;
    for channel in [1, 3, 9] {
        guest.say(FromGuest::Connected { channel }, b"").await;
        guest.say(FromGuest::Data { channel }, b"may I?").await;
        let (_, payload) = guest.find(|message| *message == ToGuest::Data { channel }).await;
        assert_eq!(&*payload, b"may I?");
        guest.say(FromGuest::DataEnd { channel }, b"").await;
        guest.until(|message| *message == ToGuest::DataEnd { channel }).await;
        guest.say(FromGuest::Done { channel, result: Ok(Answer::Done) }, b"").await;
    }
    // One that is not told where the gate is goes on without.
    guest.say(FromGuest::NoGate { port: 3128, problem: "it is taken".into() }, b"").await;
    // Numbers begin again with a connection, and what was open is over.
    guest.say(FromGuest::Connected { channel: 11 }, b"").await;
    drop(guest);
    let stream = UnixStream::connect(world.folder.path().join("s")).await.unwrap();
    let mut guest = Guest { stream, decoder: Decoder::default(), id: [0; 16] };
    guest.hello(VERSION, Vec::new()).await;
    guest.say(FromGuest::Connected { channel: 1 }, b"").await;
    guest.say(FromGuest::DataEnd { channel: 1 }, b"").await;
    guest.until(|message| *message == ToGuest::DataEnd { channel: 1 }).await;
    world.link.close();
}

#[tokio::test]
async fn every_lie_about_the_gate_ends_the_link() {
    type Lie = fn() -> Vec<u64>;
    let lies: [(&str, Lie); 4] = [
        ("opens channel 2", || vec![2]),
        ("opens channel 5 after 5", || vec![5, 5]),
        ("opens channel 3 after 5", || vec![5, 3]),
        ("more than 128", || (0..=128).map(|number| number * 2 + 1).collect()),
    ];
    for (problem, lie) in lies {
        let world = world().await;
        let mut guest = greeted(&world).await;
        for channel in lie() {
            guest.say(FromGuest::Connected { channel }, b"").await;
        }
        let found = world.broken().await;
        assert!(found.contains(problem), "{found}");
    }
    let world = with(Settings::default()).await;
    let mut guest = greeted(&world).await;
    guest.say(FromGuest::Connected { channel: 1 }, b"").await;
    assert!(world.broken().await.contains("there is none"));
}
