//! References to images, and the rules that allow them: a rule on the first line, a reference on the second.
#![no_main]

use casemate::domain::image::{DEFAULT_REGISTRY, ImageReference, ImageRule};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (rule, reference) = text.split_once('\n').unwrap_or(("docker.io/library/*", &text));
    let image = match ImageReference::parse(reference) {
        Ok(image) => image,
        Err(problem) => {
            assert!(!problem.is_empty() && problem.len() < 4 << 10, "{problem}");
            return;
        }
    };
    let whole = image.to_string();
    assert_eq!(ImageReference::parse(&whole).as_ref(), Ok(&image), "{whole} is its form");
    for part in [&image.registry, &image.repository] {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-:/".contains(&byte);
        assert!(!part.is_empty() && part.bytes().all(plain), "{part:?}");
        assert!(part.split('/').all(|name| !name.is_empty() && name != "." && name != ".."), "{part:?}");
    }
    assert!(image.tag.is_some() || image.digest.is_some());

    let Ok(rule_read) = ImageRule::parse(rule) else { return };
    if rule_read.allows(&image) {
        allowed(rule, &image);
    }
    // A rule for exactly this image allows it, and nothing of another registry or group.
    let own = ImageRule::parse(&whole).expect("a reference is a rule");
    assert!(own.allows(&image), "{whole}");
    let elsewhere = ImageReference { registry: format!("evil.{}", image.registry), ..image.clone() };
    let above = ImageReference { repository: format!("evil/{}", image.repository), ..image.clone() };
    let beside = ImageReference { repository: format!("{}-evil", image.repository), ..image };
    for other in [elsewhere, above, beside] {
        assert!(!own.allows(&other), "{whole} allows {other}");
    }
});

/// What a rule allows begins as it does, part by part.
fn allowed(rule: &str, image: &ImageReference) {
    let rule = rule.split('@').next().unwrap_or_default();
    let named = rule.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(rule, |(name, _)| name);
    let parts: Vec<_> = named.split('/').filter(|part| !part.starts_with('*')).collect();
    let first = parts.first().copied().unwrap_or_default().to_ascii_lowercase();
    if first != image.registry {
        let aliases = ["index.docker.io", "registry-1.docker.io"];
        let is_host = first.contains(['.', ':']) || first == "localhost";
        assert!(
            image.registry == DEFAULT_REGISTRY && (!is_host || aliases.contains(&first.as_str())),
            "{rule} {image}"
        );
    }
    let last = parts.last().copied().unwrap_or_default();
    assert!(image.repository.split('/').any(|part| part == last) || parts.len() == 1, "{rule} allows {image}");
}
