//! `URL` of JavaScript: the standard's parser and setters, for a guest that has none.

use serde::Deserialize;
use serde_json::{Value, json};
use url::{Url, quirks};

/// Bytes of a URL, a base and a value at most.
const MAX: usize = 1 << 20;

/// What is asked.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Request {
    /// Parse, against a base if there is one.
    Parse {
        /// The text.
        href: String,
        /// What it is relative to.
        #[serde(default)]
        base: Option<String>,
    },
    /// Set a part. What is no such part leaves the URL as it is, as in the standard.
    Set {
        /// The URL.
        href: String,
        /// Name of the part, as in JavaScript.
        part: String,
        /// Its new value.
        value: String,
    },
}

/// Answers with the parts of the URL. `Err` says that the text is no URL.
pub fn answer(request: &Request) -> Result<Value, String> {
    let url = match request {
        Request::Parse { href, base } => {
            bounded(href)?;
            let base = match base {
                Some(base) => Some(parse(bounded(base)?, None)?),
                None => None,
            };
            parse(href, base.as_ref())?
        }
        Request::Set { href, part, value } => {
            let mut url = parse(bounded(href)?, None)?;
            set(&mut url, part, bounded(value)?)?;
            url
        }
    };
    Ok(json!({
        "href": quirks::href(&url), "origin": quirks::origin(&url), "protocol": quirks::protocol(&url),
        "username": quirks::username(&url), "password": quirks::password(&url), "host": quirks::host(&url),
        "hostname": quirks::hostname(&url), "port": quirks::port(&url), "pathname": quirks::pathname(&url),
        "search": quirks::search(&url), "hash": quirks::hash(&url),
    }))
}

fn bounded(text: &str) -> Result<&str, String> {
    if text.len() <= MAX { Ok(text) } else { Err(format!("a URL has at most {MAX} bytes")) }
}

fn parse(text: &str, base: Option<&Url>) -> Result<Url, String> {
    Url::options().base_url(base).parse(text).map_err(|error| error.to_string())
}

fn set(url: &mut Url, part: &str, value: &str) -> Result<(), String> {
    // The setters of the standard ignore what they cannot take, but for `href`.
    let _ignored = match part {
        "href" => return quirks::set_href(url, value).map_err(|error| error.to_string()),
        "protocol" => quirks::set_protocol(url, value),
        "username" => quirks::set_username(url, value),
        "password" => quirks::set_password(url, value),
        "host" => quirks::set_host(url, value),
        "hostname" => quirks::set_hostname(url, value),
        "port" => quirks::set_port(url, value),
        "pathname" => {
            quirks::set_pathname(url, value);
            Ok(())
        }
        "search" => {
            quirks::set_search(url, value);
            Ok(())
        }
        "hash" => {
            quirks::set_hash(url, value);
            Ok(())
        }
        _ => return Err(format!("a URL has no part {part:?}")),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(request: Value) -> Result<Value, String> {
        answer(&serde_json::from_value(request).unwrap())
    }

    #[test]
    fn parts_are_those_of_the_standard() {
        let url =
            ask(json!({"op": "parse", "href": "../b?x=1#h", "base": "https://u:p@EXAMPLE.com:443/a/c/d"})).unwrap();
        for (part, value) in [
            ("href", "https://u:p@example.com/a/b?x=1#h"),
            ("origin", "https://example.com"),
            ("protocol", "https:"),
            ("username", "u"),
            ("password", "p"),
            ("host", "example.com"),
            ("port", ""),
            ("pathname", "/a/b"),
            ("search", "?x=1"),
            ("hash", "#h"),
        ] {
            assert_eq!(url[part], value, "{part}");
        }
        let set = ask(json!({"op": "set", "href": "http://a/", "part": "port", "value": "8080"})).unwrap();
        assert_eq!(set["href"], "http://a:8080/");
        let kept = ask(json!({"op": "set", "href": "http://a/", "part": "port", "value": "x"})).unwrap();
        assert_eq!(kept["href"], "http://a/");
        for wrong in [
            json!({"op": "parse", "href": "/x"}),
            json!({"op": "parse", "href": "a:", "base": "x"}),
            json!({"op": "set", "href": "http://a", "part": "href", "value": "x"}),
            json!({"op": "set", "href": "http://a", "part": "color", "value": "x"}),
        ] {
            ask(wrong).unwrap_err();
        }
    }
}
