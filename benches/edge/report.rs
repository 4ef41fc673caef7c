//! The table people read, and the names programs read.

use super::load::Figures;
use serde_json::Value;

#[derive(Default)]
pub struct Report {
    values: serde_json::Map<String, Value>,
}

impl Report {
    /// A line above a part of the table.
    pub fn title(&mut self, text: &str) {
        println!("\n{text}");
    }

    /// A value under a stable name; printed with its unit.
    pub fn value(&mut self, name: &str, label: &str, value: f64, unit: &str) {
        println!("  {label:<58} {value:>12.2} {unit}");
        self.values.insert(name.to_owned(), value.into());
    }

    /// What a closed loop of callers saw.
    pub fn figures(&mut self, name: &str, label: &str, figures: &Figures) {
        println!(
            "  {label:<40} p50 {:>8.1} us   p99 {:>8.1} us   {:>9.0} calls/s",
            figures.p50, figures.p99, figures.rate
        );
        self.values.insert(name.to_owned(), figures.json());
    }

    /// Two runs beside each other.
    pub fn compare(&mut self, name: &str, ours: &Figures, theirs: &Figures) {
        let (p50, rate) = (ours.p50 / theirs.p50, ours.rate / theirs.rate);
        println!("  {:<40} p50 {p50:>8.2} x    rate {rate:>7.2} x", "  beside the bare echo");
        self.values.insert(format!("{name}_p50_ratio"), p50.into());
        self.values.insert(format!("{name}_rate_ratio"), rate.into());
    }

    pub fn write(&self, path: &str) {
        let text = serde_json::to_string_pretty(&self.values).expect("plain JSON");
        std::fs::write(path, text).expect("the file can be written");
    }
}
