//! What the operator's word does with a wish.

use super::*;

fn policy() -> ContainerPolicy {
    let hour = Duration::from_secs(3600);
    ContainerPolicy {
        images: vec![ImageRule::parse("docker.io/library/*").unwrap()],
        time_to_live: (None, Some(hour)),
        idle_timeout: (None, Some(hour)),
        ..ContainerPolicy::default()
    }
}

fn wish() -> Wish {
    Wish { image: "alpine:3".into(), ..Wish::default() }
}

#[test]
fn nobody_lives_longer_than_the_cap() {
    let hour = Duration::from_secs(3600);
    assert_eq!(policy().resolve(wish(), "c").unwrap().time_to_live, Some(hour));
    let short = Wish { time_to_live: Some(hour / 2), ..wish() };
    assert_eq!(policy().resolve(short, "c").unwrap().time_to_live, Some(hour / 2));
    for (field, wrong) in [
        ("spec.time_to_live", Wish { time_to_live: Some(hour * 2), ..wish() }),
        // None is more than any bound.
        ("spec.time_to_live", Wish { time_to_live: Some(Duration::ZERO), ..wish() }),
        ("spec.idle_timeout", Wish { idle_timeout: Some(Duration::ZERO), ..wish() }),
    ] {
        let Err(Error::InvalidArgument(violations)) = policy().resolve(wrong, "c") else { panic!("{field} passed") };
        assert_eq!(violations.iter().map(|violation| &*violation.field).collect::<Vec<_>>(), [field]);
    }
    let free = ContainerPolicy { time_to_live: (Some(hour), None), ..policy() };
    let forever = Wish { time_to_live: Some(Duration::ZERO), ..wish() };
    assert_eq!(free.resolve(forever, "c").unwrap().time_to_live, None);
}
