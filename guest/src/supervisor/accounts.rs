//! Users and groups by the container's own lists. The C library's functions need its shared form.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Bytes of a list that are read at most.
const LIST_LIMIT: u64 = 1 << 20;
/// Groups of one user at most, as Linux has it for groups of a process in most places.
const GROUPS_LIMIT: usize = 1024;

/// Whom a process becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// The user.
    pub user: u32,
    /// The first group.
    pub group: u32,
    /// The other groups.
    pub others: Vec<u32>,
}

/// Looks up `NAME`, `UID`, `NAME:GROUP` or `UID:GID` in `passwd` and `group` of a folder. None if nothing would
/// change for this process.
///
/// # Errors
/// In words, for people.
pub fn find(name: &[u8], folder: &Path) -> Result<Option<Ids>, String> {
    let name = std::str::from_utf8(name).map_err(|_| "a name that is not UTF-8".to_owned())?;
    let ids = resolve(name, &list(&folder.join("passwd")), &list(&folder.join("group")))?;
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // A guest without capabilities may not change anything, not even to what it is.
    Ok(Some(ids).filter(|ids| user == 0 || (ids.user, ids.group) != (user, group)))
}

fn list(path: &Path) -> String {
    let mut bytes = Vec::new();
    // No list is as good as an empty one: numbers work without.
    let _ = File::open(path).and_then(|file| file.take(LIST_LIMIT).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn resolve(name: &str, passwd: &str, groups: &str) -> Result<Ids, String> {
    let (user, group) = name.split_once(':').map_or((name, None), |(user, group)| (user, Some(group)));
    let number = id(user);
    let account = entries(passwd).find_map(|fields| match fields[..] {
        [name, _, uid, gid, ..] if name == user || (number.is_some() && id(uid) == number) => {
            Some((name, id(uid)?, id(gid)?))
        }
        _ => None,
    });
    // A number that nobody has is somebody all the same; its group is the first, as in Docker.
    let (account, user, first) = match (account, number) {
        (Some((name, user, first)), _) => (Some(name), user, first),
        (None, Some(number)) => (None, number, 0),
        (None, None) => return Err(format!("no user {user:?} in the container")),
    };
    if let Some(group) = group {
        let named = entries(groups).find_map(|fields| match fields[..] {
            [name, _, gid, ..] if name == group => id(gid),
            _ => None,
        });
        let group = named.or_else(|| id(group)).ok_or_else(|| format!("no group {group:?} in the container"))?;
        return Ok(Ids { user, group, others: Vec::new() });
    }
    let of = |fields: Vec<&str>| match fields[..] {
        [_, _, gid, members, ..] if members.split(',').any(|member| Some(member) == account) => id(gid),
        _ => None,
    };
    let others = entries(groups).filter_map(of).filter(|gid| *gid != first).take(GROUPS_LIMIT).collect();
    Ok(Ids { user, group: first, others })
}

fn entries(list: &str) -> impl Iterator<Item = Vec<&str>> {
    list.lines().map(|line| line.trim().split(':').collect())
}

/// An id; the highest number means "as it is" to the kernel, and is none.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nbroken\nada:x:1000:100:Ada:/home/ada:/bin/sh\n";
    const GROUPS: &str = "root:x:0:\nusers:x:100:ada\ndocker:x:7:ada,bob\nother:x:8:bob\n";

    #[test]
    fn names_and_numbers_are_found() {
        let ada = Ids { user: 1000, group: 100, others: vec![7] };
        for (name, expected) in [
            ("ada", ada.clone()),
            ("1000", ada),
            ("ada:docker", Ids { user: 1000, group: 7, others: vec![] }),
            ("0:8", Ids { user: 0, group: 8, others: vec![] }),
            ("5000", Ids { user: 5000, group: 0, others: vec![] }),
            ("5000:6000", Ids { user: 5000, group: 6000, others: vec![] }),
        ] {
            assert_eq!(resolve(name, PASSWD, GROUPS), Ok(expected), "{name}");
        }
        for name in ["", "eve", "ada:", "ada:nobody", "4294967295", "-1", "broken"] {
            assert!(resolve(name, PASSWD, GROUPS).is_err(), "{name}");
        }
    }
}
