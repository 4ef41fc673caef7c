//! What tells two calls with one request id apart.

use super::call::Call;
use crate::domain::limits::LimitsRequest;
use sha2::{Digest, Sha256};

/// The fingerprint of a call with these parameters. It is kept with the request id, so its form does not change:
/// a retry must be known by a later build as well. What a call did not use to have counts only when it is there.
pub(super) fn fingerprint(call: &Call, parameters: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut part = |part: &[u8]| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    part(call.tool.as_bytes());
    part(parameters);
    part(format!("{} {}", limits(&call.limits), call.keep_stdin_open).as_bytes());
    let asked = (call.limits.scratch_bytes, call.limits.child_executions, call.limits.child_depth);
    if asked != (None, None, None) {
        part(format!("limits {asked:?}").as_bytes());
    }
    if !call.stdin.is_empty() {
        part(b"stdin");
        part(&call.stdin);
    }
    let inputs = &call.inputs;
    for file in &inputs.files {
        part(format!("file {:o} {}", file.mode, file.path).as_bytes());
        part(&file.data);
    }
    for argument in &inputs.arguments {
        part(b"argument");
        part(argument.as_bytes());
    }
    for (name, value) in &inputs.environment {
        part(b"environment");
        part(name.as_bytes());
        part(value.as_bytes());
    }
    for pattern in &inputs.return_files {
        part(format!("return {pattern}").as_bytes());
    }
    if let Some(target) = &call.target {
        part(format!("target {target:?}").as_bytes());
    }
    hash.finalize().into()
}

/// The limits that calls have had from the beginning, written as they were then.
fn limits(limits: &LimitsRequest) -> String {
    let LimitsRequest { wall_time, memory_bytes, table_elements, stack_bytes, output_bytes, host_calls, fuel, .. } =
        limits;
    format!(
        "LimitsRequest {{ wall_time: {wall_time:?}, memory_bytes: {memory_bytes:?}, table_elements: {table_elements:?}, \
         stack_bytes: {stack_bytes:?}, output_bytes: {output_bytes:?}, host_calls: {host_calls:?}, fuel: {fuel:?} }}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::input::{InputFile, Inputs};
    use crate::domain::pattern::PathPattern;
    use crate::tool::Parameters;
    use std::time::Duration;

    fn call() -> Call {
        Call {
            tool: "echo".into(),
            parameters: Parameters::default(),
            inputs: Inputs::default(),
            stdin: Default::default(),
            limits: LimitsRequest { wall_time: Some(Duration::from_secs(2)), fuel: Some(7), ..Default::default() },
            keep_stdin_open: false,
            labels: Default::default(),
            request_id: None,
            principal: "p".into(),
            administers: false,
            target: None,
            parent: None,
        }
    }

    #[test]
    fn a_call_as_it_used_to_be_has_the_fingerprint_it_used_to_have() {
        let mut hash = Sha256::new();
        for part in [
            b"echo".as_slice(),
            b"{}",
            b"LimitsRequest { wall_time: Some(2s), memory_bytes: None, table_elements: None, stack_bytes: None, \
              output_bytes: None, host_calls: None, fuel: Some(7) } false",
        ] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let then: [u8; 32] = hash.finalize().into();
        assert_eq!(fingerprint(&call(), b"{}"), then);
    }

    #[test]
    fn a_fingerprint_that_is_on_disks_is_still_made() {
        let call = Call { limits: LimitsRequest::default(), ..call() };
        let kept = "d36c11409fb600369704ddfcc2851e062da2ca3b3ae461d3af90aeeeee080fc5";
        assert_eq!(hex::encode(fingerprint(&call, br#"{"text":"kept"}"#)), kept);
    }

    #[test]
    fn everything_that_is_given_counts() {
        let file = |path: &str, data: &'static str, mode| InputFile { path: path.into(), data: data.into(), mode };
        let changes: [fn(&mut Call); 9] = [
            |_| {},
            |call| call.keep_stdin_open = true,
            |call| call.stdin = "x".into(),
            |call| call.limits.child_depth = Some(1),
            |call| call.limits.scratch_bytes = Some(1),
            |call| call.inputs.arguments = vec!["x".into()],
            |call| call.inputs.arguments = vec!["x".into(), String::new()],
            |call| call.inputs.environment = [("x".to_owned(), String::new())].into(),
            |call| call.inputs.return_files = vec![PathPattern::parse("x").unwrap()],
        ];
        let mut calls: Vec<Call> = changes
            .iter()
            .map(|change| {
                let mut call = call();
                change(&mut call);
                call
            })
            .collect();
        for files in [vec![file("x", "", 0o644)], vec![file("x", "", 0o600)], vec![file("x", "y", 0o644)]] {
            calls.push(Call { inputs: Inputs { files, ..Inputs::default() }, ..call() });
        }
        let prints: std::collections::BTreeSet<[u8; 32]> = calls.iter().map(|call| fingerprint(call, b"{}")).collect();
        assert_eq!(prints.len(), calls.len());
    }
}
