//! Messages: what is said, and that it was said by who has the key.

use super::zmtp::Parts;
use bytes::Bytes;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

const DELIMITER: &[u8] = b"<IDS|MSG>";
/// Version of the protocol that is spoken.
const VERSION: &str = "5.3";

/// A message of a kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Its kind, such as `stream`.
    pub kind: String,
    /// The request that it belongs to.
    pub parent: String,
    /// What it says; null where it was too large to be read.
    pub content: Value,
    /// Bytes that were not read, because there were too many.
    pub lost: u64,
}

/// Signs and checks messages of one connection.
#[derive(Clone)]
pub struct Signer {
    key: Vec<u8>,
    session: String,
}

impl Signer {
    /// With the key that the kernel was started with. `session` names who speaks.
    pub fn new(key: &str, session: &str) -> Signer {
        Signer { key: key.as_bytes().to_vec(), session: session.to_owned() }
    }

    /// Who speaks.
    pub(super) fn session(&self) -> &str {
        &self.session
    }

    fn mac<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).ok()?;
        parts.into_iter().for_each(|part| mac.update(part));
        Some(mac)
    }

    /// The parts of a request.
    pub(super) fn request(&self, kind: &str, id: &str, content: &Value) -> Vec<Bytes> {
        self.parts(kind, id, json!({}), content)
    }

    /// What a kernel says of a request.
    #[cfg(test)]
    pub(super) fn answer(&self, request: &str, kind: &str, content: &Value) -> Vec<Bytes> {
        self.parts(kind, "answer", json!({ "msg_id": request }), content)
    }

    fn parts(&self, kind: &str, id: &str, parent: Value, content: &Value) -> Vec<Bytes> {
        let date = humantime::format_rfc3339_micros(std::time::SystemTime::now()).to_string();
        let header = json!({
            "msg_id": id, "msg_type": kind, "session": self.session, "username": "casemate", "date": date,
            "version": VERSION,
        });
        let said = [header, parent, json!({}), content.clone()].map(|part| Bytes::from(part.to_string()));
        let mac = self.mac(said.iter().map(|part| &**part));
        let signature = mac.map(|mac| hex::encode(mac.finalize().into_bytes())).unwrap_or_default();
        [Bytes::from_static(DELIMITER), signature.into()].into_iter().chain(said).collect()
    }

    /// Reads a message; an error says how it is none.
    pub(super) fn read(&self, Parts { parts, lost }: Parts) -> Result<Message, &'static str> {
        let at = parts.iter().position(|part| &**part == DELIMITER).ok_or("it has no delimiter")?;
        let [_, signature, said @ ..] = &parts[at..] else { return Err("it has no signature") };
        let [header, parent, metadata, content, ..] = said else { return Err("it is cut off") };
        // Of what was thrown away the signature cannot be checked; then nothing but its place is believed.
        if lost == 0 {
            let mac = self.mac([&**header, parent, metadata, content]).ok_or("there is no key")?;
            let signature = hex::decode(signature).map_err(|_| "its signature is no number")?;
            mac.verify_slice(&signature).map_err(|_| "its signature is wrong")?;
        }
        let read = |part: &Bytes| serde_json::from_slice::<Value>(part).map_err(|_| "it is no JSON");
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (header, parent) = (read(header)?, read(parent)?);
        Ok(Message {
            kind: text(&header, "msg_type"),
            parent: text(&parent, "msg_id"),
            content: if lost == 0 { read(content)? } else { Value::Null },
            lost,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_read_and_what_was_changed_is_not() {
        let signer = Signer::new("secret", "s");
        let parts = signer.request("execute_request", "1", &json!({"code": "x"}));
        let read = |parts: Vec<Bytes>| signer.read(Parts { parts, lost: 0 });
        let message = read(parts.clone()).unwrap();
        assert_eq!((message.kind.as_str(), message.content["code"].as_str()), ("execute_request", Some("x")));
        // Kernels put whom they answer before it, and buffers behind it.
        let longer = [vec![Bytes::from_static(b"who")], parts.clone(), vec![Bytes::from_static(b"buffer")]].concat();
        assert_eq!(read(longer).unwrap(), message);
        let mut changed = parts.clone();
        changed[5] = Bytes::from_static(b"{\"code\": \"y\"}");
        assert_eq!(read(changed).unwrap_err(), "its signature is wrong");
        assert!(Signer::new("other", "s").read(Parts { parts: parts.clone(), lost: 0 }).is_err());
        assert!(read(parts[..4].to_vec()).is_err() && read(Vec::new()).is_err());
        // What was too large is known by its place alone.
        let mut cut = parts;
        cut[5] = Bytes::new();
        let message = signer.read(Parts { parts: cut, lost: 9 }).unwrap();
        assert_eq!((message.content, message.lost), (Value::Null, 9));
    }
}
