//! Taking an interpreter's module apart: its code without data, and the memory its data makes.
//!
//! What comes out is compiled once. Every snapshot of the interpreter is then nothing but another memory for
//! the same code. That only works for a module whose whole state is its memory, so anything else is refused:
//! passive segments, a start function, a table or a global that code can change (the stack pointer excepted,
//! which is back at its start between calls; it is exported so that this can be checked).

use super::memory::WASM_PAGE;
use std::collections::HashMap;
use std::ops::Range;
use wasm_encoder::{ExportKind, ExportSection, MemorySection, MemoryType, Module, RawSection};
use wasmparser::{
    BinaryReaderError, DataKind, ExternalKind, FunctionBody, KnownCustom, Name, NameSectionReader, Operator, Parser,
    Payload, TypeRef,
};

/// Name under which the stack pointer is exported.
pub const STACK_POINTER: &str = "x:stack_pointer";

/// Prefix of the names under which inner functions are exported.
pub const INNER: &str = "x:";

/// A module taken apart.
pub struct Parts {
    /// The module without data and names, with the exports asked for.
    pub code: Vec<u8>,
    /// The memory its data segments make; whole WASM pages.
    pub memory: Vec<u8>,
}

/// Takes a module apart and exports the inner functions of these names, as found in its name section.
/// `Err` says why its state is not only its memory, or what is missing.
pub fn take_apart(wasm: &[u8], inner: &[&str]) -> Result<Parts, String> {
    let failed = |error: BinaryReaderError| format!("it cannot be read: {error}");
    let mut names: HashMap<&str, u32> = HashMap::new();
    let mut sections: Vec<(u8, Range<usize>)> = Vec::new();
    let mut memory: Option<(MemoryType, Vec<u8>)> = None;
    let mut exports = ExportSection::new();
    let mut globals: Vec<bool> = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(failed)?;
        match &payload {
            Payload::ImportSection(reader) => {
                for import in reader.clone().into_imports() {
                    let import = import.map_err(failed)?;
                    if !matches!(import.ty, TypeRef::Func(_)) {
                        return Err(format!("it imports {}.{}, which is no function", import.module, import.name));
                    }
                }
            }
            Payload::MemorySection(reader) => {
                for found in reader.clone() {
                    let found = found.map_err(failed)?;
                    if memory.is_some() || found.memory64 || found.shared || found.page_size_log2.is_some() {
                        return Err("it needs more than one plain 32-bit memory".into());
                    }
                    let pages = usize::try_from(found.initial).unwrap_or(usize::MAX);
                    let bytes = pages.checked_mul(WASM_PAGE).filter(|bytes| *bytes <= 1 << 30);
                    let bytes = bytes.ok_or("its memory begins with more than 1 GiB")?;
                    // The image decides how large the memory is, not the module.
                    let small = MemoryType {
                        minimum: 1,
                        maximum: found.maximum,
                        memory64: false,
                        shared: false,
                        page_size_log2: None,
                    };
                    memory = Some((small, vec![0; bytes]));
                }
                sections.push((MEMORY, 0..0));
                continue;
            }
            Payload::GlobalSection(reader) => {
                for global in reader.clone() {
                    globals.push(global.map_err(failed)?.ty.mutable);
                }
            }
            Payload::ExportSection(reader) => {
                for export in reader.clone() {
                    let export = export.map_err(failed)?;
                    let kind = match export.kind {
                        ExternalKind::Func => ExportKind::Func,
                        ExternalKind::Memory => ExportKind::Memory,
                        ExternalKind::Global => ExportKind::Global,
                        // A table that can be reached from outside could be changed from there.
                        _ => continue,
                    };
                    exports.export(export.name, kind, export.index);
                }
                // Written once the names are known.
                sections.push((EXPORTS, 0..0));
                continue;
            }
            Payload::StartSection { .. } => return Err("it has a start function".into()),
            Payload::DataSection(reader) => {
                let (_, bytes) = memory.as_mut().ok_or("it has data and no memory")?;
                for segment in reader.clone() {
                    let segment = segment.map_err(failed)?;
                    let DataKind::Active { memory_index: 0, offset_expr } = segment.kind else {
                        return Err("it has data that is not placed at the start".into());
                    };
                    let offset = match offset_expr.get_operators_reader().read().map_err(failed)? {
                        Operator::I32Const { value } => value as u32 as usize,
                        _ => return Err("it places data at an address that is not constant".into()),
                    };
                    let end = offset.checked_add(segment.data.len()).filter(|end| *end <= bytes.len());
                    let end = end.ok_or("it places data outside of its memory")?;
                    bytes[offset..end].copy_from_slice(segment.data);
                }
                continue;
            }
            Payload::DataCountSection { .. } => continue,
            Payload::CodeSectionEntry(body) => {
                if let Some(what) = changes_elsewhere(body).map_err(failed)? {
                    return Err(format!("it {what}, so its memory is not all of its state"));
                }
                continue;
            }
            Payload::CustomSection(custom) => {
                if let KnownCustom::Name(reader) = custom.as_known() {
                    find_names(reader, inner, &mut names).map_err(failed)?;
                }
                continue;
            }
            _ => {}
        }
        if let Some((id, range)) = payload.as_section() {
            sections.push((id, range));
        }
    }
    let (memory_type, memory) = memory.ok_or("it has no memory")?;
    if !globals.first().is_some_and(|mutable| *mutable) {
        return Err("its first global is no stack pointer".into());
    }
    for name in inner {
        let index = *names.get(name).ok_or_else(|| format!("it has no function {name:?}"))?;
        exports.export(&format!("{INNER}{name}"), ExportKind::Func, index);
    }
    exports.export(STACK_POINTER, ExportKind::Global, 0);
    let mut module = Module::new();
    for (id, range) in sections {
        match id {
            MEMORY => {
                let mut section = MemorySection::new();
                section.memory(memory_type);
                module.section(&section)
            }
            EXPORTS => module.section(&exports),
            id => module.section(&RawSection { id, data: &wasm[range] }),
        };
    }
    Ok(Parts { code: module.finish(), memory })
}

const MEMORY: u8 = 5;
const EXPORTS: u8 = 7;

fn find_names<'a>(
    reader: NameSectionReader<'a>,
    wanted: &[&str],
    names: &mut HashMap<&'a str, u32>,
) -> Result<(), BinaryReaderError> {
    for part in reader {
        if let Name::Function(map) = part? {
            for naming in map {
                let naming = naming?;
                if wanted.contains(&naming.name) {
                    names.insert(naming.name, naming.index);
                }
            }
        }
    }
    Ok(())
}

/// What in a function changes state that is not in the memory.
fn changes_elsewhere(body: &FunctionBody<'_>) -> Result<Option<&'static str>, BinaryReaderError> {
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        match operators.read()? {
            Operator::GlobalSet { global_index: 0 } => {}
            Operator::GlobalSet { .. } => return Ok(Some("changes a global")),
            Operator::TableSet { .. }
            | Operator::TableGrow { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. } => return Ok(Some("changes a table")),
            Operator::MemoryInit { .. } | Operator::DataDrop { .. } | Operator::ElemDrop { .. } => {
                return Ok(Some("uses passive segments"));
            }
            _ => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Result<Parts, String> {
        take_apart(&wat::parse_str(text).unwrap(), &["inner"])
    }

    #[test]
    fn data_becomes_memory_and_inner_functions_become_exports() {
        let parts = parts(
            r#"(module
                (import "host" "call" (func))
                (table 1 funcref)
                (memory (export "memory") 2)
                (global $sp (mut i32) (i32.const 4096))
                (func $inner (global.set $sp (i32.const 1)))
                (func (export "run"))
                (elem (i32.const 0) $inner)
                (data (i32.const 65536) "abc"))"#,
        )
        .unwrap();
        assert_eq!(parts.memory.len(), 2 * WASM_PAGE);
        assert_eq!(&parts.memory[WASM_PAGE..WASM_PAGE + 4], b"abc\0");
        let text = format!("{:?}", Parser::new(0).parse_all(&parts.code).map(Result::unwrap).collect::<Vec<_>>());
        assert!(!text.contains("DataSection"));
        let engine = wasmtime::Engine::default();
        let module = wasmtime::Module::new(&engine, &parts.code).unwrap();
        let mut exports: Vec<&str> = module.exports().map(|export| export.name()).collect();
        exports.sort_unstable();
        assert_eq!(exports, ["memory", "run", "x:inner", STACK_POINTER]);
    }

    #[test]
    fn state_outside_of_the_memory_is_refused() {
        let sp = "(global $sp (mut i32) (i32.const 0)) (func $inner)";
        for (module, problem) in [
            (format!("(module (memory 1) {sp} (start $inner))"), "start function"),
            (
                format!(
                    "(module (memory 1) {sp} (global $g (mut i32) (i32.const 0)) (func (global.set $g (i32.const 1))))"
                ),
                "global",
            ),
            (
                format!(
                    "(module (memory 1) {sp} (table 1 funcref) (func (drop (table.grow (ref.null func) (i32.const 1)))))"
                ),
                "table",
            ),
            (format!("(module (memory 1) {sp} (data \"x\") (func (data.drop 0)))"), "passive"),
            (format!("(module (memory 1) {sp} (data \"x\"))"), "not placed"),
            (format!("(module (memory 1) {sp} (data (i32.const 65536) \"x\"))"), "outside"),
            (format!("(module {sp})"), "no memory"),
            ("(module (memory 1) (func $inner))".into(), "stack pointer"),
            ("(module (memory 1) (global (mut i32) (i32.const 0)))".into(), "no function"),
            (format!("(module (import \"a\" \"b\" (memory 1)) {sp})"), "no function"),
        ] {
            let refused = parts(&module).err().unwrap_or_default();
            assert!(refused.contains(problem), "{module}: {refused:?}");
        }
    }
}
