//! What each method needs. A method that is not named here cannot be called.

/// What a principal may do; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Anybody: health and reflection.
    Public,
    /// Look at tools, executions, containers and agents.
    Read,
    /// Run things, and steer what runs.
    Execute,
    /// Change what can be run.
    Manage,
    /// Credentials and the audit log.
    Administer,
}

impl Permission {
    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Permission::Public => "public",
            Permission::Read => "read",
            Permission::Execute => "execute",
            Permission::Manage => "manage",
            Permission::Administer => "administer",
        }
    }
}

/// What a method needs, by its path `/package.Service/Method`; `None` for a method nobody may call.
pub fn needed(path: &str) -> Option<Permission> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    match service {
        "grpc.health.v1.Health"
        | "grpc.reflection.v1.ServerReflection"
        | "grpc.reflection.v1alpha.ServerReflection" => {
            return Some(Permission::Public);
        }
        _ => {}
    }
    let service = service.strip_prefix("casemate.v1.")?;
    Some(match (service, method) {
        ("Tools", "ListTools" | "GetTool" | "GetToolSchemas") => Permission::Read,
        ("Tools", "ExecuteTool" | "ExecuteToolStream") => Permission::Execute,
        ("Tools", "RegisterTool" | "UploadTool" | "DeleteTool" | "ReloadTools") => Permission::Manage,

        ("Executions", "GetExecution" | "ListExecutions" | "WatchExecution" | "WaitExecution") => Permission::Read,
        ("Executions", "WriteStdin" | "SignalExecution" | "ResizeTerminal" | "CancelExecution") => Permission::Execute,

        ("Sessions", "GetSession" | "ListSessions") => Permission::Read,
        ("Sessions", "CreateSession" | "ForkSession" | "SnapshotSession" | "CloseSession") => Permission::Execute,

        ("Snapshots", "ListSnapshots" | "GetSnapshot") => Permission::Read,
        ("Snapshots", "BuildSnapshot" | "DeleteSnapshot") => Permission::Manage,

        (
            "Containers",
            "ListContainers" | "GetContainer" | "WatchContainers" | "StreamLogs" | "StreamStats" | "ListImages",
        ) => Permission::Read,
        (
            "Containers",
            "SpawnContainer" | "StopContainer" | "KillContainer" | "PauseContainer" | "ResumeContainer"
            | "SnapshotContainer" | "StartProcess" | "Exec" | "ReadFile" | "WriteFile" | "ListDirectory" | "StatPath"
            | "MakeDirectory" | "MovePath" | "RemovePath" | "WatchPath" | "UploadArchive" | "DownloadArchive"
            | "ForwardPort",
        ) => Permission::Execute,
        ("Containers", "PullImage") => Permission::Manage,

        ("Agents", "ListAgents" | "GetAgent" | "WatchAgents") => Permission::Read,
        ("Agents", "StartAgent" | "StopAgent" | "TouchAgent") => Permission::Execute,
        ("Agents", "RegisterAgent" | "UpdateAgent" | "RemoveAgent") => Permission::Manage,

        ("Pools", "ListPools" | "GetPool") => Permission::Read,
        ("Pools", "LeaseContainer" | "ReleaseContainer") => Permission::Execute,
        ("Pools", "CreatePool" | "UpdatePool" | "DeletePool") => Permission::Manage,

        ("Credentials", "ListCredentials" | "PutCredential" | "DeleteCredential") => Permission::Administer,

        ("System", "GetServerInfo" | "GetStats") => Permission::Read,
        ("System", "StreamAudit" | "VerifyAudit") => Permission::Administer,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn every_method_of_the_contract_has_a_permission() {
        let set = prost_types::FileDescriptorSet::decode(crate::proto::DESCRIPTORS).unwrap();
        let mut methods = 0;
        for file in set.file.iter().filter(|file| file.package() == "casemate.v1") {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/casemate.v1.{}/{}", service.name(), method.name());
                    let permission = needed(&path);
                    assert!(permission.is_some_and(|needed| needed > Permission::Public), "{path}: {permission:?}");
                    methods += 1;
                }
            }
        }
        assert!(methods >= 17, "the descriptor set holds {methods} methods");
    }

    #[test]
    fn unknown_methods_are_for_nobody() {
        for path in ["", "/", "/casemate.v1.Tools/Nope", "/casemate.v1.Nope/ListTools", "/other.Tools/ListTools"] {
            assert_eq!(needed(path), None, "{path}");
        }
    }
}
