//! Refusals that arrive: they travel as trailers, of which many clients take 8 KiB in all. Of larger ones their caller
//! learns nothing, not even the code.

use tonic_types::{ErrorDetails, FieldViolation, QuotaViolation};

/// Bytes of a refusal on the wire. The rest is left to other trailers, and to what stands between.
const MOST: usize = 6 << 10;
/// Bytes of a text, and problems told, in the attempts to fit.
const ATTEMPTS: [(usize, usize); 4] = [(1024, 16), (400, 8), (120, 8), (40, 4)];

/// Whether a refusal is small enough.
pub(super) fn fit(message: &str, details: &[u8]) -> bool {
    // In a header most signs and all letters beyond ASCII take three characters for a byte; bytes are in base 64.
    let plain = |byte: &u8| byte.is_ascii_graphic() && !br##""#%<>`?{}"##.contains(byte);
    let message: usize = message.as_bytes().iter().map(|byte| if plain(byte) { 1 } else { 3 }).sum();
    message + details.len().div_ceil(3) * 4 <= MOST
}

/// Ever shorter forms of a refusal, of which the last fits whatever was in it.
pub(super) fn shorter(message: &str, details: &ErrorDetails) -> impl Iterator<Item = (String, ErrorDetails)> {
    ATTEMPTS.iter().map(|(bytes, problems)| (clipped(message, *bytes), clip(details.clone(), *bytes, *problems)))
}

fn clip(mut details: ErrorDetails, bytes: usize, problems: usize) -> ErrorDetails {
    if let Some(request) = details.bad_request() {
        let all = &request.field_violations;
        let shown = all.iter().take(problems);
        let mut fields: Vec<_> = shown
            .map(|one| FieldViolation::new(clipped(&one.field, bytes), clipped(&one.description, bytes)))
            .collect();
        if all.len() > problems {
            fields.push(FieldViolation::new("", format!("and {} more", all.len() - problems)));
        }
        details.set_bad_request(fields);
    }
    if let Some(quota) = details.quota_failure() {
        let shown = quota.violations.iter().take(problems);
        let violations =
            shown.map(|one| QuotaViolation::new(clipped(&one.subject, bytes), clipped(&one.description, bytes)));
        details.set_quota_failure(violations.collect::<Vec<_>>());
    }
    if let Some(resource) = details.resource_info().cloned() {
        // The message says the same.
        details.set_resource_info(resource.resource_type, clipped(&resource.resource_name, bytes), "", "");
    }
    if let Some(info) = details.error_info().cloned() {
        let metadata = info.metadata.into_iter().map(|(key, value)| (key, clipped(&value, bytes)));
        details.set_error_info(info.reason, info.domain, metadata.collect::<std::collections::HashMap<_, _>>());
    }
    details
}

/// The beginning of a text that is too long, which says so.
fn clipped(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes);
    format!("{}... ({} bytes)", &text[..end], text.len())
}

#[cfg(test)]
mod tests {
    use crate::error::{Error, Violation};
    use crate::rpc::status::status;
    use proptest::prelude::*;
    use tonic_types::StatusExt;

    /// Bytes of a refusal as it leaves.
    fn sent(status: &tonic::Status) -> usize {
        let mut headers = http::HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_is_quoted_the_refusal_arrives_with_its_reason(
            letter in prop_oneof![Just('a'), Just('"'), Just('ä'), Just('\u{1f980}'), Just('\u{0}')],
            length in prop_oneof![0usize..300, Just(5_000), Just(40_000)],
            count in 0usize..40,
        ) {
            let long: String = std::iter::repeat_n(letter, length).collect();
            let violations = || (0..count).map(|_| Violation::new(long.clone(), long.clone())).collect::<Vec<_>>();
            for error in [
                Error::InvalidArgument(violations()),
                Error::ParametersInvalid { tool: long.clone(), violations: violations() },
                Error::ToolNotFound { name: long.clone() },
                Error::ContainerExists { name: long.clone(), id: crate::domain::id::ContainerId::new() },
                Error::BackendFull { problem: long.clone() },
                Error::Internal(long.clone()),
            ] {
                let (reason, text) = (error.reason(), error.to_string());
                let status = status(error);
                prop_assert!(sent(&status) <= 7 << 10, "{} bytes", sent(&status));
                let details = status.get_error_details();
                prop_assert_eq!(&details.error_info().unwrap().reason, reason.name());
                if text.len() < 200 {
                    prop_assert_eq!(status.message(), text);
                }
            }
        }
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let violations = (0..300).map(|at| Violation::new(format!("mounts[{at}]"), "is no path")).collect();
        let details = status(Error::InvalidArgument(violations)).get_error_details();
        let told = &details.bad_request().unwrap().field_violations;
        assert_eq!((told.len(), told[16].description.as_str()), (17, "and 284 more"));
        let status = status(Error::ToolNotFound { name: "x".repeat(100_000) });
        assert!(status.message().contains("xxx... (100050 bytes)"), "{}", status.message());
    }
}
