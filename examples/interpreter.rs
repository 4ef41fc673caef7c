//! dev harness
use casemate::domain::event::{LogLevel, OutputStream, Progress};
use casemate::domain::io::OutputSink;
use casemate::domain::output::RichOutput;
use casemate::interpreter::{self as it, *};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
struct Print(bool);
impl OutputSink for Print {
    fn write(&self, s: OutputStream, d: bytes::Bytes) { if self.0 { print!("{}{}", if s == OutputStream::Stderr { "[err] " } else { "" }, String::from_utf8_lossy(&d)) } }
    fn log(&self, l: LogLevel, m: String) { println!("{l:?} {m}") }
    fn progress(&self, p: Progress) { println!("{p:?}") }
    fn rich(&self, r: RichOutput) { if self.0 { for f in r.representations { println!("[{:?} {} {}] {}", r.kind, f.mime_type, f.size_bytes, format!("{:?}", f.content).chars().take(200).collect::<String>()) } } }
}
fn wasi(d: &Path, tmp: bool, show: bool) -> it::wasi::Wasi {
    let mut lib = vec![(d.join("lib"), "/usr/local/lib".to_string())];
    lib.push((d.join("mpl-data"), "/usr/local/lib/python315.zip/matplotlib/mpl-data".into()));
    let t = d.join("tmp"); std::fs::create_dir_all(&t).unwrap();
    it::wasi::Wasi::host(lib, tmp.then_some(t), Arc::new(Print(show)))
}
#[tokio::main]
async fn main() {
    let a: Vec<String> = std::env::args().collect();
    let d = Path::new(&a[2]);
    let slots = it::memory::Slots::new(64, true);
    let tenant: Tenant = "me".into();
    let load = || unsafe { Runtime::load(&d.join("code.cwasm"), Language::Python, &slots) }.unwrap();
    match a[1].as_str() {
        "compile" => {
            let t = Instant::now();
            let p = it::module::take_apart(&std::fs::read(d.join("python.wasm")).unwrap(), it::python::INNER_FUNCTIONS).unwrap();
            println!("apart {:?} code {} memory {}", t.elapsed(), p.code.len(), p.memory.len());
            Image::write(&d.join("start.image"), [0; 32], &p.memory).unwrap();
            let t = Instant::now();
            let c = it::compile(&p.code).unwrap();
            println!("compiled {:?} {}", t.elapsed(), c.len());
            std::fs::write(d.join("code.cwasm"), c).unwrap();
        }
        "freeze" => {
            let r = load();
            let image = Arc::new(Image::open(&d.join("start.image")).unwrap());
            let t = Instant::now();
            let mut i = Isolate::start(&r, &image, &tenant, wasi(d, true, true), 3 << 30).await.unwrap();
            let e = r.engine().clone(); std::thread::spawn(move || loop { std::thread::sleep(std::time::Duration::from_millis(4)); e.increment_epoch(); });
            it::python::preload(&mut i, Arc::new(Print(true)), None).await.unwrap();
            println!("preloaded {:?} {} MiB", t.elapsed(), i.memory().len() >> 20);
            Image::write(&d.join("all.image"), [0; 32], i.memory()).unwrap();
        }
        "run" => {
            let t = Instant::now();
            let r = load();
            println!("load {:?}", t.elapsed());
            let e = r.engine().clone(); std::thread::spawn(move || loop { std::thread::sleep(std::time::Duration::from_millis(4)); e.increment_epoch(); });
            let image = Arc::new(Image::open(&d.join("all.image")).unwrap());
            let t = Instant::now();
            let mut i = Isolate::start(&r, &image, &tenant, wasi(d, false, true), 256 << 20).await.unwrap();
            println!("start {:?}", t.elapsed());
            for (n, c) in a[3..].iter().enumerate() {
                let t = Instant::now();
                let turned = i.once(Turn { name: format!("<turn {}>", n + 1), code: c.clone().into(), reseed: n == 0, ..Default::default() }, Arc::new(Print(true))).await;
                println!("-- {:?} {:?} {:?} denied {:?}", t.elapsed(), turned.said, turned.result, turned.denied);
                if turned.result.is_err() { break }
            }
        }
        "bench" => {
            let r = load();
            let e = r.engine().clone(); std::thread::spawn(move || loop { std::thread::sleep(std::time::Duration::from_millis(4)); e.increment_epoch(); });
            let image = Arc::new(Image::open(&d.join("all.image")).unwrap());
            let mut rows = vec![];
            for _ in 0..a[4].parse::<usize>().unwrap() {
                let t = Instant::now();
                let w = wasi(d, false, false);
                let w1 = t.elapsed();
                let mut i = Isolate::start(&r, &image, &tenant, w, 256 << 20).await.unwrap();
                let s = t.elapsed();
                let turned = i.once(Turn { name: "<code>".into(), code: a[3].clone().into(), reseed: true, ..Default::default() }, Arc::new(Print(false))).await;
                let u = t.elapsed();
                assert!(turned.result.is_ok() && turned.said.code == Some(0), "{:?}", turned.said);
                drop(i);
                rows.push([w1, s - w1, u - s, t.elapsed() - u, t.elapsed()]);
            }
            for (n, name) in ["wasi", "start", "turn", "drop", "all"].iter().enumerate() {
                let mut v: Vec<_> = rows.iter().map(|r| r[n]).collect(); v.sort();
                println!("{name} p50 {:?} p99 {:?} min {:?}", v[v.len() / 2], v[v.len() * 99 / 100], v[0]);
            }
            println!("{:?}", slots.facts());
        }
        _ => {}
    }
}
